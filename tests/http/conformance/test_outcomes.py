"""What is answered again, and what isn't: items 30 to 38."""

from client import Gone
from case import Answer, Case, needs

BYTES = bytes(range(256))

# Nothing happened; it may have happened; it happened.
NOTHING = [401, 403, 408, 425, 429, 503]
MAYBE = [500, 501, 502, 504, 507, 599]
HAPPENED = [200, 201, 202, 206, 301, 302, 303, 307, 400, 402, 404, 405, 409, 410, 413, 415, 418, 422, 451]


class Outcomes(Case):
    def test_30_status_headers_and_body_byte_by_byte(self):
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"set-cookie", b"a=1; Path=/"),
            (b"location", b"/payments/1"),
            (b"set-cookie", b"b=2; Path=/"),
            (b"x-empty", b""),
            (b"set-cookie", b"a=3"),
            (b"etag", b'"4f2c81"'),
        ]
        self.origin.answers(self.path, Answer(202, headers, BYTES))
        first = self.post()
        self.told(first, status=202, body=BYTES)
        for name in {name for name, _ in headers}:
            told = [value for field, value in first.fields if field == name]
            self.assertEqual(told, [value for field, value in headers if field == name])
        for _ in range(3):
            self.replays(self.post(), first)
        self.executed(1)

    def test_30_a_large_body(self):
        body = BYTES * 2048  # 512 KiB, which every store takes
        self.origin.answers(self.path, Answer(body=body))
        first = self.post()
        self.told(first, body=body)
        self.replays(self.post(), first)

    def test_31_an_empty_body(self):
        for status in [200, 204, 404]:
            path = f"{self.path}/{status}"
            self.origin.answers(path, Answer(status, [], b""))
            first = self.post(path)
            self.told(first, status=status, body=b"")
            self.replays(self.post(path), first)
            self.executed(1, path)

    def test_31_headers_that_arent_text(self):
        value = bytes(byte for byte in range(33, 256) if byte != 127)
        self.origin.answers(self.path, Answer(headers=[(b"x-bytes", value), (b"x-utf-8", "ä€".encode())]))
        first = self.post()
        self.assertIn((b"x-bytes", value), first.fields)
        self.assertIn((b"x-utf-8", "ä€".encode()), first.fields)
        self.replays(self.post(), first)

    def test_32_only_a_replay_is_marked(self):
        self.assertEqual(self.post().header("idempotent-replayed"), "")
        self.assertEqual(self.post().header("idempotent-replayed"), "true")
        self.assertEqual(self.send("GET").header("idempotent-replayed"), "")

    @needs("can_be_written")
    def test_33_what_is_of_the_connection_isnt_kept(self):
        path, mark = f"{self.path}/dated", b"Mon, 01 Jan 2001 01:01:01 GMT"
        self.origin.answers(path, Answer(headers=[(b"date", mark), (b"x-kept", b"kept by %s" % self.key.encode())]))
        self.told(self.post(path))
        self.assertIn(b"kept by %s" % self.key.encode(), self.store.contents())
        self.assertNotIn(mark, self.store.contents())
        self.assertNotEqual(self.post(path).header("date"), mark.decode())

    @needs("strip")
    def test_33_a_header_can_be_kept_out(self):
        headers = [(b"set-cookie", b"session=1"), (b"x-other", b"1")]
        self.origin.answers(self.path, Answer(headers=headers))
        server = self.server(strip=["set-cookie"])
        self.assertEqual(self.post(at=server).header("set-cookie"), "session=1")
        again = self.post(at=server)
        self.assertTrue(again.replayed)
        self.assertEqual((again.header("set-cookie"), again.header("x-other")), ("", "1"))

    def test_34_what_wasnt_executed_leaves_the_key_free(self):
        for status in NOTHING:
            with self.subTest(status=status):
                path = f"{self.path}/{status}"
                self.origin.answers(path, Answer(status), Answer(201))
                self.told(self.post(path), status=status)
                # Another payload is welcome too: nothing happened with the first.
                second = self.post(path, body=b"another payload")
                self.told(second, body=b"execution 2")
                self.replays(self.post(path, body=b"another payload"), second)
                self.attempts(path, 1, 1)

    def test_35_a_handlers_own_refusal_is_kept(self):
        for status in HAPPENED:
            with self.subTest(status=status):
                path = f"{self.path}/{status}"
                self.origin.answers(path, Answer(status))
                first = self.post(path)
                self.told(first, status=status)
                self.replays(self.post(path), first)
                self.executed(1, path)

    @needs("keep")
    def test_35_each_status_can_be_told_otherwise(self):
        server = self.server(keep={"404": "nothing", "409": "maybe", "500": "response", "503": "response"})
        for status, executions in [(404, 2), (409, 2), (500, 1), (503, 1)]:
            with self.subTest(status=status):
                path = f"{self.path}/{status}"
                self.origin.answers(path, Answer(status))
                for again in [False, executions == 1]:
                    self.told(self.post(path, at=server), status=status, replayed=again)
                self.executed(executions, path)

    def test_36_a_failure_is_executed_again_as_another_attempt(self):
        for status in MAYBE:
            with self.subTest(status=status):
                path = f"{self.path}/{status}"
                self.origin.answers(path, Answer(status), Answer(status), Answer(201))
                self.told(self.post(path), status=status)
                self.problem(self.post(path, body=b"another payload"), 422, "key-reused")
                self.told(self.post(path), status=status)
                third = self.post(path)
                self.told(third, body=b"execution 3")
                self.replays(self.post(path), third)
                self.attempts(path, 1, 2, 3)

    @needs("hold")
    def test_36_or_held_by_policy(self):
        server = self.server(hold=True)
        for status in MAYBE:
            with self.subTest(status=status):
                path = f"{self.path}/{status}"
                self.origin.answers(path, Answer(status))
                self.told(self.post(path, at=server), status=status)
                self.problem(self.post(path, at=server), 409, "outcome-unknown")
                self.problem(self.post(path, at=server, body=b"999"), 422, "key-reused")
                self.executed(1, path)

    @needs("hold")
    def test_36_what_didnt_happen_isnt_held(self):
        server = self.server(hold=True)
        for status in NOTHING:
            path = f"{self.path}/{status}"
            self.origin.answers(path, Answer(status), Answer(201))
            self.told(self.post(path, at=server), status=status)
            self.told(self.post(path, at=server), body=b"execution 2")

    def test_36_a_failure_is_shared_with_those_who_wait(self):
        """Nothing tells when a request has begun to wait, so this is tried until one had."""
        for status in [500, 503]:
            for attempt in range(60):
                path = f"{self.path}/{status}/{attempt}"
                self.origin.answers(path, Answer(status, [(b"x-why", b"tired")]), Answer(201))
                with self.origin.holding(path):
                    waiting = [self.later(self.post, path) for _ in range(16)]
                    self.origin.wait_for(path, 1)
                replies = [reply.result() for reply in waiting]
                # One execution failed, and one was right for those who came too late.
                self.assertLessEqual(len(self.origin.executions(path)), 2)
                failed = [reply for reply in replies if reply.status == status]
                self.assertEqual(sum(not reply.replayed for reply in failed), 1)
                self.assertTrue(all(reply.header("x-why") == "tired" for reply in failed))
                if len(failed) > 1:
                    break
            else:
                self.fail(f"nobody was told {status} by another's execution")

    @needs("panics")
    def test_37_a_handler_that_panics_has_maybe_happened(self):
        self.origin.answers(self.path, Answer(headers=[(b"x-then", b"panic")]), Answer(201))
        with self.assertRaises(Gone):
            self.post()
        second = self.post()
        self.told(second, body=b"execution 2")
        self.replays(self.post(), second)
        self.attempts(self.path, 1, 2)

    @needs("panics")
    def test_37_those_who_wait_take_over_one_by_one(self):
        self.origin.answers(self.path, Answer(headers=[(b"x-then", b"panic")]), Answer(201))
        with self.origin.holding(self.path):
            waiting = [self.later(self.post) for _ in range(8)]
            self.origin.wait_for(self.path, 1)
        lost = [reply for reply in waiting if reply.exception()]
        told = [reply.result() for reply in waiting if not reply.exception()]
        self.assertEqual((len(lost), len(told)), (1, 7))
        self.assertEqual({reply.body for reply in told}, {b"execution 2"})
        self.executed(2)

    @needs("panics", "hold")
    def test_37_or_is_held(self):
        server = self.server(hold=True)
        self.origin.answers(self.path, Answer(headers=[(b"x-then", b"panic")]))
        with self.assertRaises(Gone):
            self.post(at=server)
        self.problem(self.post(at=server), 409, "outcome-unknown")
        self.executed(1)

    def test_37_an_origin_that_hangs_up_has_maybe_happened(self):
        self.origin.answers(self.path, Answer(hangs_up=True), Answer(201))
        self.told(self.post(), status=502)
        self.told(self.post(), body=b"execution 2")
        self.attempts(self.path, 1, 2)

    def test_41_what_has_expired_is_executed_anew(self):
        server = self.server(ttl_ms=1)
        bodies = {self.post(at=server).body}
        while len(bodies) == 1:  # within a millisecond it was still there
            bodies.add(self.post(at=server).body)
        self.assertEqual(bodies, {b"execution 1", b"execution 2"})

    def test_41_another_payload_too(self):
        server = self.server(ttl_ms=1)
        self.told(self.post(at=server))
        while (reply := self.post(at=server, body=b"another payload")).status == 422:
            pass  # within a millisecond it was still there
        self.told(reply, body=b"execution 2")

    def attempts(self, path, *numbers):
        """Which attempts the origin was told that its executions are."""
        self.executed(len(numbers), path)
        if "fences" not in self.world.target.lacks:
            told = tuple(int(done.headers["onceflight-attempt"]) for done in self.origin.executions(path))
            self.assertEqual(told, numbers)


class CreatedThenOk(Case):
    """The other preset: 201 at first, 200 when it is told again."""

    def at(self):
        return self.server(created_then_ok=True)

    @needs("created_then_ok")
    def test_a_success_is_created_and_then_ok(self):
        for status in [200, 201, 202]:
            path = f"{self.path}/{status}"
            self.origin.answers(path, Answer(status, [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]))
            first, again = (self.post(path, at=self.at()) for _ in range(2))
            self.told(first, status=201, body=b"execution 1")
            self.told(again, status=200, replayed=True, body=b"execution 1")
            self.assertEqual(again.essence[1:], first.essence[1:])
            self.executed(1, path)

    @needs("created_then_ok")
    def test_anything_else_is_what_it_is(self):
        for status in [302, 404, 422]:
            path = f"{self.path}/{status}"
            self.origin.answers(path, Answer(status))
            first = self.post(path, at=self.at())
            self.told(first, status=status)
            self.replays(self.post(path, at=self.at()), first)

    @needs("created_then_ok")
    def test_pending_is_409_at_once(self):
        with self.origin.holding(self.path):
            first = self.later(self.post, at=self.at())
            self.origin.wait_for(self.path, 1)
            pending = self.post(at=self.at())
            self.problem(pending, 409, "in-progress")
            self.passes(pending)
        self.told(first.result(), status=201)

    @needs("created_then_ok")
    def test_missing_is_400_whatever_the_method(self):
        for method in ["POST", "PATCH", "PUT", "DELETE"]:
            self.problem(self.send(method, at=self.at()), 400, "key-missing")
        self.told(self.send("GET", at=self.at()))
        self.executed(1)
