"""A store that is away, or was written to by others, and things too large for it: items 38 to 45."""

import contextlib

from case import Answer, Case, needs

TIMEOUT = 300  # milliseconds


class Store(Case):
    def brief(self, **options):
        return self.server(store_timeout_ms=TIMEOUT, **options)

    @needs("can_be_down", "store_timeout_ms")
    def test_03_without_a_key_no_store_is_asked(self):
        server = self.brief(optional=True)
        with self.store.down():
            for method in ["GET", "POST", "PUT"]:
                self.told(self.send(method, at=server))
        self.executed(3)

    @needs("can_be_down", "store_timeout_ms", "hold")
    def test_38_the_client_has_its_response_whatever_the_store_has(self):
        """It was executed, and that can't be told to the store: nobody else executes it."""
        server = self.brief(hold=True)
        with contextlib.ExitStack() as down:
            with self.origin.holding(self.path):
                first = self.later(self.post, at=server)
                self.origin.wait_for(self.path, 1)
                down.enter_context(self.store.down())
            self.told(first.result(), body=b"execution 1")
        again = self.post(at=server)
        if again.status == 409:
            self.problem(again, 409, "outcome-unknown")
        else:  # the store was frozen, and took it when it thawed
            self.replays(again, first.result())
        self.executed(1)

    @needs("can_be_written")
    def test_39_a_corrupt_record_is_never_an_answer_nor_executed_again(self):
        changes = [
            ("x'ff' || substr(body, 2)", "another format"),
            ("x''", "nothing"),
            ("substr(body, 1, 1)", "no headers"),
            ("substr(body, 1, 6)", "cut off within a header"),
            ("x'01ffff' || substr(body, 4)", "headers without end"),
            ("x'010100ffff' || substr(body, 6)", "a name without end"),
            ("x'0101000100200000000000'", "a name that is none"),
            ("x'010100010061010000000a'", "a value that is none"),
        ]
        for number, (change, what) in enumerate(changes):
            with self.subTest(what):
                path, key = f"{self.path}/{number}", f"{self.key}-{number}"
                self.origin.answers(path, Answer(headers=[(b"x-some", b"value")], body=b""))
                self.told(self.post(path, key=key))
                self.store.write(change, key)
                for _ in range(2):
                    self.problem(self.post(path, key=key), 500, "record-corrupt")
                self.problem(self.post(path, key=key, body=b"999"), 422, "key-reused")
                self.executed(1, path)

    @needs("can_be_down", "store_timeout_ms")
    def test_44_a_store_that_is_down(self):
        server = self.brief()
        with self.store.down():
            reply = self.post(at=server)
            self.problem(reply, 503, "unavailable")
            self.passes(reply)
            self.executed(0)
        first = self.post(at=server)
        self.told(first, body=b"execution 1")
        self.replays(self.post(at=server), first)
        self.executed(1)

    @needs("max_in_flight")
    def test_45_too_many_at_once(self):
        server, other = self.server(max_in_flight=1), f"{self.path}/other"
        with self.origin.holding(self.path):
            first = self.later(self.post, at=server)
            self.origin.wait_for(self.path, 1)
            reply = self.post(other, at=server)
            self.problem(reply, 503, "overloaded")
            self.passes(reply)
        self.told(first.result())
        self.executed(0, other)
        self.told(self.post(other, at=server))

    @needs("max_request")
    def test_45_a_request_that_is_too_large(self):
        server = self.server(max_request=1000)
        self.problem(self.post(body=b"x" * 1001, at=server), 413, "request-too-large")
        self.executed(0)
        self.told(self.post(body=b"x" * 1000, at=server))
        # Without a key nobody fingerprints it.
        self.told(self.send("PUT", body=b"x" * 1001, at=server))

    @needs("max_response")
    def test_45_a_response_that_is_too_large_to_keep(self):
        server = self.server(max_response=1000)
        self.origin.answers(self.path, Answer(202, body=b"x" * 1001))
        self.told(self.post(at=server), status=202, body=b"x" * 1001)
        told = self.problem(self.post(at=server), 409, "response-not-kept")
        self.assertIn("202", told["detail"])
        self.problem(self.post(at=server, body=b"999"), 422, "key-reused")
        self.executed(1)

    @needs("max_response")
    def test_45_those_who_wait_are_told_so(self):
        server = self.server(max_response=1000)
        self.origin.answers(self.path, Answer(body=b"x" * 1001))
        replies = self.at_once(8, lambda _: self.post(at=server))
        self.assertEqual(sum(reply.status == 201 for reply in replies), 1)
        for reply in replies:
            if reply.status != 201:
                self.problem(reply, 409, "response-not-kept")
        self.executed(1)

    @needs("disabled")
    def test_49_disabled_it_refuses_nothing_keeps_nothing_and_warns_once(self):
        server = self.own_server(disabled=True)
        usual = f'"{self.key}"'.encode()
        for number, header in enumerate([usual, usual, b"no key", None, usual], 1):
            self.told(self.post(header=header, at=server), body=b"execution %d" % number)
        for done in self.origin.executions(self.path):
            self.assertEqual(int(done.headers["onceflight-attempt"]), 1)
        keys = [done.headers["x-key"] for done in self.origin.executions(self.path)]
        self.assertEqual([keys[0], keys[1], keys[4]], [self.key] * 3)
        if self.store.can_be_written:
            self.assertNotIn(self.key.encode(), self.store.contents())
        self.assertEqual(server.said().count("Idempotency-Keys are disabled"), 1, server.said())
