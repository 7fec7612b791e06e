"""`onceflight.wsgi` without a server: what it asks of an application, and what it answers for one.

What a client sees is the HTTP suite's to test: test_wsgi_conformance.py.
"""

import contextlib
import io
import json
import sqlite3
import sys
import threading
import unittest
import uuid
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from stores import PATIENCE, Sqlite, Thread
from support import in_child, onceflight, until_waiting
from onceflight import _http_record as record
from onceflight._http_key import BadKey, parse
from onceflight.wsgi import EXECUTION, Idempotency, Keep, Requirement

TOO_LONG = "k" * 256


class Answer:
    def __init__(self, status, headers, body):
        self.code, self.headers, self.body = int(status[:3]), headers, body

    def header(self, name):
        found = [value for field, value in self.headers if field.lower() == name.lower()]
        return found[0] if found else None

    @property
    def replayed(self):
        return self.header("Idempotent-Replayed") == "true"

    @property
    def problem(self):
        assert self.header("Content-Type") == "application/problem+json", self.headers
        told = json.loads(self.body)
        assert told["status"] == self.code
        return told["type"].rpartition(":")[2]


class App:
    """Counts, and answers as it is told."""

    def __init__(self, status="201 Created", headers=(), body=None):
        self.status, self.headers, self.body = status, list(headers), body
        self.executions = []

    def __call__(self, environ, start_response):
        size = int(environ.get("CONTENT_LENGTH") or 0)
        self.executions.append((environ.get(EXECUTION), environ["wsgi.input"].read(size)))
        start_response(self.status, [("Content-Type", "text/plain"), *self.headers])
        body = b"execution %d" % len(self.executions) if self.body is None else self.body
        return [body]

    def attempts(self):
        return [execution.attempt for execution, _ in self.executions]


class Case(Sqlite, unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.sent_key = uuid.uuid4().hex

    def idempotency(self, app, *, make=Idempotency, **options):
        made = make(app, self.url, **options)
        self.addCleanup(lambda: made.table.close())
        return made

    def ask(self, app, method="POST", path="/pay", key="", body=b"payload", **environ):
        """What a server would send; `key` "" is this test's, None is none."""
        key = f'"{self.sent_key}"' if key == "" else key
        asked = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
        if body:
            asked["CONTENT_LENGTH"] = str(len(body))
        if key is not None:
            asked["HTTP_IDEMPOTENCY_KEY"] = key
        asked.update(environ)
        setup_testing_defaults(asked)
        asked.setdefault("QUERY_STRING", "")
        told = []
        pieces = app(asked, lambda *head: told.append(head) or io.BytesIO().write)
        try:
            content = b"".join(pieces)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        return Answer(told[-1][0], told[-1][1], content)


class Keys(unittest.TestCase):
    def test_a_string_of_rfc_8941(self):
        for header, key in [
            ('"a"', "a"), ('" "', " "), ('"a,b;c=d"', "a,b;c=d"), (r'"a\"b\\c"', 'a"b\\c'), (' "a"\t', "a"),
            (f'"{TOO_LONG[1:]}"', TOO_LONG[1:]),
        ]:  # fmt: skip
            for lenient in (False, True):
                self.assertEqual(parse(header, lenient), key)
        for header in [
            '"', '""', '"a', r'"a\"', r'"\a"', '"a"b', '"a";p', '"a", "b"', '"a","b"', '"\t"', '"\xe4"', f'"{TOO_LONG}"',
        ]:  # fmt: skip
            for lenient in (False, True):
                with self.assertRaises(BadKey, msg=header):
                    parse(header, lenient)
        for header in ["", "a", "'a'", ":YQ==:", "?1"]:
            with self.assertRaises(BadKey, msg=header):
                parse(header, False)

    def test_a_bare_token_where_that_is_allowed(self):
        for header in ["a", "4f2c81", "a/b:c=d", "?1", "'a'", "[a]", "a-b+c"]:
            self.assertEqual(parse(header, True), header)
        for header in ["", "a b", "a,b", 'a"', "a\\b", "\xe4", "a\x7f", TOO_LONG]:
            with self.assertRaises(BadKey, msg=header):
                parse(header, True)

    def test_why(self):
        for header, why in [
            ("a", "isn't quoted"), ('""', "is empty"), ('"a', "closing quote is missing"), (r'"\a"', "escapes"),
            ('"\xe4"', "printable"), ('"a","b"', "more than one"), ('"a" b', "behind"), (f'"{TOO_LONG}"', "255"),
        ]:  # fmt: skip
            with self.assertRaisesRegex(BadKey, why):
                parse(header, False)


class Records(unittest.TestCase):
    HEADERS = [("Set-Cookie", "a=1"), ("X-Empty", ""), ("Set-Cookie", "b=2"), ("X-Bytes", "\xff\t~")]

    def test_byte_by_byte(self):
        """Records outlive the process that wrote them."""
        kept = b"\x01\x01\x00\x03\x00X-A\x02\x00\x00\x00\xffbthe body"
        self.assertEqual(record.encode([("X-A", "\xffb")], b"the body"), kept)
        self.assertEqual(record.decode(kept), ([("X-A", "\xffb")], b"the body"))

    def test_it_comes_back_as_it_was(self):
        for response in [(self.HEADERS, bytes(range(256))), ([], b"")]:
            self.assertEqual(record.decode(record.encode(*response)), response)

    def test_too_large(self):
        with self.assertRaises(record.NotKept):
            record.decode(record.NOT_KEPT)

    def test_corrupt_ones_are_told(self):
        kept = record.encode(self.HEADERS, b"")
        for length in range(len(kept)):
            with self.assertRaises(record.Corrupt):
                record.decode(kept[:length])
        for corrupt in [b"\x02", b"\x00\x00", b"\x01\x01\x00\x01\x00 \x00\x00\x00\x00", b"\x01\x01\x00\x01\x00a\x01\x00\x00\x00\n"]:
            with self.assertRaises(record.Corrupt):
                record.decode(corrupt)


class Requests(Case):
    def test_a_retry_has_the_first_response(self):
        app = App(headers=[("Set-Cookie", "a=1"), ("Date", "then"), ("Set-Cookie", "b=2")])
        served = validator(self.idempotency(validator(app)))
        first, again = self.ask(served), self.ask(served)
        self.assertEqual((first.code, first.replayed, again.code, again.replayed), (201, False, 201, True))
        self.assertEqual((again.body, again.header("Content-Length")), (first.body, str(len(first.body))))
        kept = [pair for pair in again.headers if pair[0] == "Set-Cookie"]
        self.assertEqual(kept, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        self.assertEqual((first.header("Date"), again.header("Date")), ("then", None))
        ((execution, body),) = app.executions
        self.assertEqual((execution.key, execution.attempt, execution.checkpoint, body), (self.sent_key, 1, None, b"payload"))
        self.assertEqual(self.ask(served, body=b"another").problem, "key-reused")
        self.assertEqual(self.ask(served, QUERY_STRING="a=1").problem, "key-reused")

    def test_what_needs_a_key(self):
        app = App()
        served = self.idempotency(app)
        self.assertEqual(self.ask(served, key=None).problem, "key-missing")
        self.assertEqual(self.ask(served, key="bare").problem, "key-invalid")
        for method in ("GET", "PUT", "DELETE"):
            self.assertEqual(self.ask(served, method, key=None).code, 201)
        self.assertEqual([execution for execution, _ in app.executions], [None] * 3)
        for method in ("GET", "HEAD", "OPTIONS"):
            self.assertFalse(self.ask(served, method).replayed or self.ask(served, method).replayed)

    def test_without_a_key_nothing_is_touched(self):
        """Not even the table is opened: this one couldn't be."""
        pieces = iter([b"as it is"])
        served = Idempotency(lambda environ, start_response: pieces, "sqlite:/no/such/directory/a.db")
        environ = {"REQUEST_METHOD": "GET"}
        self.assertIs(served(environ, None), pieces)
        self.assertEqual(environ, {"REQUEST_METHOD": "GET"})

    def test_choices(self):
        app = App(headers=[("X-Secret", "1"), ("X-Other", "2")])
        served = self.idempotency(
            app,
            require=lambda method, path: Requirement.REQUIRED if path == "/pay" else Requirement.OFF,
            lenient_keys=True,
            principal=lambda environ: environ["REMOTE_USER"],
            payload=lambda environ, body: body[:3],
            strip=["X-SECRET"],
            secret=b"0123456789abcdef",
            docs="https://example.org/keys",
        )
        missing = self.ask(served, "GET", key=None)
        self.assertEqual((missing.problem, missing.header("Link")), ("key-missing", '<https://example.org/keys>; rel="help"'))
        self.assertEqual(self.ask(served, path="/other", key=None).code, 201)
        first = self.ask(served, key="bare", body=b"one and", REMOTE_USER="ada")
        again = self.ask(served, key='"bare"', body=b"one or", REMOTE_USER="ada")
        self.assertEqual((again.body, again.replayed), (first.body, True))
        self.assertEqual((first.header("X-Secret"), again.header("X-Secret"), again.header("X-Other")), ("1", None, "2"))
        self.assertFalse(self.ask(served, key="bare", REMOTE_USER="bob").replayed)

    def test_the_seeds_preset(self):
        served = self.idempotency(App("200 OK"), make=Idempotency.created_then_ok)
        first, again = self.ask(served), self.ask(served)
        self.assertEqual((first.code, again.code, again.body), (201, 200, first.body))
        self.assertEqual(self.ask(served, "DELETE", key=None).problem, "key-missing")

    def test_bodies_come_in_many_ways(self):
        app = App()
        served = self.idempotency(app, max_request=10)
        first = self.ask(served, body=b"0123456789")
        chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
        again = self.ask(served, body=b"0123456789", **chunked, **{"wsgi.input_terminated": True})
        self.assertEqual((again.body, again.replayed), (first.body, True))
        self.assertEqual(self.ask(served, body=b"0123456789", **chunked).problem, "length-required")
        late = io.BytesIO()  # what is too long isn't read
        for input, length in [(io.BytesIO(b"01234"), "10"), (late, "ten"), (late, "-1")]:
            asked = {"wsgi.input": input, "CONTENT_LENGTH": length}
            self.assertEqual(self.ask(served, **asked).problem, "request-incomplete")
        self.assertEqual(self.ask(served, CONTENT_LENGTH="11").problem, "request-too-large")
        endless = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
        self.assertEqual(self.ask(served, body=b"x" * 11, **endless).problem, "request-too-large")
        self.assertEqual([body for _, body in app.executions], [b"0123456789"])

    def test_a_request_that_waits_for_itself_is_told_so(self):
        def app(environ, start_response):
            inner.append(self.ask(served))
            start_response("200 OK", [])
            return [b"outer"]

        inner, served = [], self.idempotency(app, wait=PATIENCE)
        self.assertEqual(self.ask(served).body, b"outer")
        self.assertEqual([answer.problem for answer in inner], ["in-progress"])


    def test_an_application_may_change_its_request(self):
        """What a request is known by is decided before the application has it: item 15."""

        def app(environ, start_response):
            executed.append(environ["wsgi.input"].read())
            changed = {
                "REQUEST_METHOD": "PUT",
                "PATH_INFO": "/another",
                "QUERY_STRING": "way",
                "HTTP_AUTHORIZATION": "another",
                "HTTP_IDEMPOTENCY_KEY": '"another"',
                "wsgi.input": io.BytesIO(b"900"),
            }
            environ.update(changed)
            start_response("201 Created", [])
            return [b""]

        executed = []
        served = self.idempotency(app)
        for replayed in [False, True]:
            self.assertEqual(self.ask(served, body=b"100").replayed, replayed)
        self.assertEqual(self.ask(served, body=b"900").problem, "key-reused")
        self.assertEqual(executed, [b"100"])


class Disabled(Case):
    """Item 49; that it is said once, and that nothing is kept, is for the HTTP suite."""

    def disabled(self, app, **options):
        with self.assertWarnsRegex(UserWarning, "disabled") as warned:
            made = Idempotency(app, "sqlite:/nowhere/at all", disabled=True, **options)
        self.assertEqual(warned.filename, __file__)
        return made

    def test_no_store_is_opened_and_nothing_refused(self):
        app = App()
        served = self.disabled(app, max_request=3)
        for number, (key, body) in enumerate([("", b"100"), ("", b"longer"), (None, b""), ("none", b"")], 1):
            answer = self.ask(served, key=key, body=body)
            self.assertEqual((answer.body, answer.replayed), (b"execution %d" % number, False))
        self.assertEqual([body for _, body in app.executions], [b"100", b"longer", b"", b""])

    def test_an_application_finds_what_it_expects(self):
        app = App()
        served = self.disabled(app)
        for key in ["", "", None, None]:
            self.ask(served, key=key)
        found = [execution for execution, _ in app.executions]
        self.assertEqual({(execution.attempt, execution.checkpoint) for execution in found}, {(1, None)})
        fences = [execution.fence for execution in found]
        self.assertEqual(fences, sorted(set(fences)))
        self.assertEqual([execution.key for execution in found[:2]], [self.sent_key] * 2)
        self.assertEqual(len({execution.key for execution in found}), 3)
        found[0].set_checkpoint(b"kept nowhere")
        # Where none is expected there is none.
        for method in ["GET", "PUT", "DELETE"]:
            self.ask(served, method, key=None)
        self.assertEqual([execution for execution, _ in app.executions[4:]], [None] * 3)

    def test_a_success_is_told_as_at_first(self):
        served = self.disabled(App("202 Accepted"), successes=(201, 200))
        self.assertEqual([self.ask(served).code for _ in range(2)], [201, 201])
        self.assertEqual(self.ask(served, "GET", key=None).code, 202)

    def test_a_file_isnt_the_servers_own(self):
        def app(environ, start_response):
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](io.BytesIO(b"what is in the file"), 4)

        told = self.ask(self.disabled(app), **{"wsgi.file_wrapper": lambda *_: self.fail("the server's own")})
        self.assertEqual(told.body, b"what is in the file")


class Checkpoints(Case):
    """What an execution leaves for the next one; of other processes the HTTP suite tells."""

    def leaving(self, *statuses, leave=b"charged"):
        """Each execution leaves something, and answers so; an exception is raised."""

        def app(environ, start_response):
            execution = environ[EXECUTION]
            found.append(execution)
            status = statuses[len(found) - 1]
            execution.set_checkpoint(leave)
            if status is None:
                raise ValueError
            start_response(status, [])
            return [b""]

        found = []
        return self.idempotency(app), found

    def test_the_next_execution_finds_it(self):
        for lost in ["500 Broke", "503 Busy", None]:
            with self.subTest(lost=lost):
                self.sent_key = uuid.uuid4().hex
                served, found = self.leaving(lost, "201 Created")
                if lost is None:
                    with self.assertRaises(ValueError):
                        self.ask(served)
                else:
                    self.ask(served)
                self.assertEqual(self.ask(served, body=b"another").problem, "key-reused")
                self.ask(served)
                told = [(execution.attempt, execution.checkpoint) for execution in found]
                self.assertEqual(told, [(1, None), (2, b"charged")])

    def test_what_comes_after_the_answer_is_refused(self):
        for status in ["201 Created", "500 Broke", "503 Busy"]:
            self.sent_key = uuid.uuid4().hex
            served, found = self.leaving(status)
            self.ask(served)
            with self.assertRaises(onceflight.Stale):
                found[0].set_checkpoint(b"late")

    def test_one_that_is_too_large_is_told(self):
        def app(environ, start_response):
            with self.assertRaises(onceflight.TooLarge):
                environ[EXECUTION].set_checkpoint(b"x" * 11)
            start_response("201 Created", [])
            return [b""]

        self.assertEqual(self.ask(self.idempotency(app, max_response_len=10)).code, 201)


class Responses(Case):
    def replays(self, app):
        """What is told first and again of an application's response."""
        served = validator(self.idempotency(validator(app)))
        first, again = self.ask(served), self.ask(served)
        self.assertEqual((first.replayed, again.replayed), (False, True))
        self.assertEqual((first.code, first.body), (again.code, again.body))
        return first

    def test_a_stream(self):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield from (b"in ", b"", b"pieces")

        self.assertEqual(self.replays(app).body, b"in pieces")

    def test_write(self):
        def app(environ, start_response):
            write = start_response("200 OK", [("Content-Type", "text/plain")])
            write(b"written, ")
            return [b"returned"]

        self.assertEqual(self.replays(app).body, b"written, returned")

    def test_a_file(self):
        class Sent:
            """As a server's may be: not to be read by anybody."""

            def __init__(self, file, size=8192):
                raise AssertionError("the server's own")

        def app(environ, start_response):
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](files[-1], 4)

        files = []
        served = self.idempotency(app)
        for _ in range(2):
            files.append(io.BytesIO(b"what is in the file"))
            told = self.ask(served, **{"wsgi.file_wrapper": Sent})
            self.assertEqual(told.body, b"what is in the file")
        self.assertEqual([file.closed for file in files], [True, False])

    def test_close_is_called_once(self):
        class Pieces(list):
            def close(self):
                closed.append(True)

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return Pieces([b"a"])

        closed = []
        self.replays(app)
        self.assertEqual(closed, [True])

    def test_an_error_page_takes_the_place_of_what_was_begun(self):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            try:
                raise ValueError
            except ValueError:
                start_response("404 Not Found", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"no such thing"]

        told = self.replays(app)
        self.assertEqual((told.code, told.body), (404, b"no such thing"))

    def test_but_not_of_what_would_be_sent(self):
        def app(environ, start_response):
            start_response("200 OK", [])
            yield b"sent"
            try:
                raise ValueError("too late")
            except ValueError:
                start_response("500 Broke", [], sys.exc_info())

        with self.assertRaisesRegex(ValueError, "too late"):
            self.ask(self.idempotency(app))

    def test_applications_that_dont_keep_to_the_protocol(self):
        def silent(environ, start_response):
            return []

        def early(environ, start_response):
            return [b"a"]

        def twice(environ, start_response):
            start_response("200 OK", [])
            start_response("200 OK", [])

        for app in (silent, early, twice):
            with self.assertRaises(AssertionError):
                self.ask(self.idempotency(app))

    def test_head_has_no_body(self):
        app = App(headers=[("Content-Length", "11")])
        served = self.idempotency(app, require=lambda method, path: Requirement.REQUIRED)
        for replayed in (False, True):
            told = self.ask(served, "HEAD", body=b"")
            self.assertEqual((told.code, told.body, told.replayed), (201, b"", replayed))
        self.assertEqual(self.ask(served, "HEAD", key=None).body, b"")

    def test_no_length_where_there_may_be_none(self):
        app = App("204 No Content", body=b"")
        served = self.idempotency(app)
        self.assertEqual([self.ask(served).header("Content-Length") for _ in range(2)], [None, None])

    def test_too_large_to_keep(self):
        for status, again in [("201 Created", "response-not-kept"), ("503 Busy", 1), ("500 Broke", 2)]:
            with self.subTest(status=status):
                self.sent_key = uuid.uuid4().hex
                app = App(status, body=b"x" * 100)
                served = self.idempotency(app, max_response_len=50)
                self.assertEqual(self.ask(served).body, b"x" * 100)
                second = self.ask(served)
                if again == "response-not-kept":
                    self.assertEqual(second.problem, again)
                else:
                    self.assertEqual(app.attempts(), [1, again])


class Outcomes(Case):
    def test_what_raises_may_have_happened(self):
        """Its exception is the server's, and the next attempt knows that there was one."""

        class Broken:
            def __init__(self):
                self.attempts, self.closed = [], 0

            def __call__(self, environ, start_response):
                self.attempts.append(environ[EXECUTION].attempt)
                start_response("200 OK", [])
                if len(self.attempts) == 1:
                    raise KeyboardInterrupt
                return self

            def __iter__(self):
                if len(self.attempts) == 2:
                    raise ValueError("midway")
                return iter([b"third"])

            def close(self):
                self.closed += 1

        app = Broken()
        served = self.idempotency(app)
        with self.assertRaises(KeyboardInterrupt):
            self.ask(served)
        with self.assertRaisesRegex(ValueError, "midway"):
            self.ask(served)
        self.assertEqual(self.ask(served).body, b"third")
        self.assertEqual((app.attempts, app.closed), ([1, 2, 3], 2))

    def test_or_is_held(self):
        def app(environ, start_response):
            raise ValueError

        served = self.idempotency(app, on_lease_expired="hold")
        with self.assertRaises(ValueError):
            self.ask(served)
        self.assertEqual(self.ask(served).problem, "outcome-unknown")

    def test_by_status(self):
        for status, attempts in [("503 Busy", [1, 1]), ("500 Broke", [1, 2]), ("404 Not Found", [1])]:
            self.sent_key, app = uuid.uuid4().hex, App(status)
            served = self.idempotency(app)
            for _ in range(2):
                self.ask(served)
            self.assertEqual(app.attempts(), attempts)

    def test_a_status_can_be_told_otherwise(self):
        app = App("500 Broke")
        served = self.idempotency(app, keep=lambda status: Keep.RESPONSE if status == 500 else Keep.usual(status))
        self.assertEqual([self.ask(served).replayed for _ in range(2)], [False, True])

    def test_those_who_wait(self):
        """They share what isn't kept too; and past their time are told to come again."""
        for status in ("201 Created", "503 Busy", "500 Broke"):
            with self.subTest(status=status):
                self.sent_key, held = uuid.uuid4().hex, Held(status)
                served, hasty = self.idempotency(held), self.idempotency(held, wait=0, retry_after=2.5)
                first = Thread(self.ask, served)
                held.begun.result()
                waiting = [Thread(self.ask, served) for _ in range(3)]
                until_waiting(served.table, 3)
                told = self.ask(hasty)
                self.assertEqual((told.problem, told.header("Retry-After")), ("in-progress", "3"))
                self.assertEqual(self.ask(served, body=b"another").problem, "key-reused")
                held.go()
                self.assertEqual((first.result().code, first.result().replayed), (held.code, False))
                for waited in waiting:
                    self.assertEqual((waited.result().code, waited.result().replayed), (held.code, True))
                    self.assertEqual(waited.result().body, first.result().body)


class Held:
    """Begins, and goes on when it is told."""

    def __init__(self, status):
        self.status, self.code = status, int(status[:3])
        self._begun, self._go = threading.Event(), threading.Event()
        self.begun, self.go = Thread(self._begun.wait, PATIENCE), self._go.set

    def __call__(self, environ, start_response):
        self._begun.set()
        assert self._go.wait(PATIENCE)
        start_response(self.status, [])
        return [b"held"]


class Stores(Case):
    def test_an_operator_finds_a_record_by_its_name(self):
        """Item 46: by who asked for what, and the key; it is for a command line, and so printable."""
        served = self.idempotency(App())
        self.ask(served, HTTP_AUTHORIZATION="Basic YWRhOg==")
        self.ask(served, "PUT", "/other")
        names = [
            served.name_of(self.sent_key, "/pay", principal="Basic YWRhOg=="),
            served.name_of(self.sent_key, "/other", method="PUT"),
        ]
        scope = onceflight.fingerprint("scope", "Basic YWRhOg==", "POST", "/pay")
        self.assertEqual(names[0], scope.hex() + self.sent_key)
        with contextlib.closing(sqlite3.connect(self.path)) as file:
            found = file.execute("SELECT scope, CAST(key AS TEXT) FROM onceflight_records").fetchall()
        self.assertEqual(sorted(found), sorted((b"", name) for name in names))
        self.assertTrue(all(name.isascii() and name.isprintable() for name in names))
        self.assertEqual(served.table.stats().leads, 2)

    def test_a_store_that_is_away_is_503(self):
        app = App()
        served = Idempotency(app, "sqlite:/no/such/directory/a.db")
        with self.assertLogs("onceflight.wsgi", "ERROR") as logs:
            told = self.ask(served)
        self.assertEqual((told.code, told.problem, told.header("Retry-After")), (503, "unavailable", "1"))
        self.assertEqual((app.executions, len(logs.output)), ([], 1))

    def test_what_the_store_cant_be_told(self):
        """The client has its response, and nobody else executes it for certain."""

        def app(environ, start_response):
            lockers.append(self.locked())
            start_response("201 Created", [])
            return [b"done"]

        lockers, served = [], self.idempotency(app, store_timeout=0.2, on_lease_expired="hold")
        with self.assertLogs("onceflight.wsgi", "ERROR"):
            self.assertEqual(self.ask(served).body, b"done")
        lockers[0].communicate()
        told = self.ask(served)
        self.assertEqual(told.problem, "outcome-unknown")

    def test_what_raises_is_told_as_it_was(self):
        """Item 37: though the store can't be told that the key is given up."""

        def app(environ, start_response):
            attempts.append(environ[EXECUTION].attempt)
            if len(attempts) == 1:
                lockers.append(self.locked())
                raise ValueError("its own words")
            start_response("201 Created", [])
            return [b"done"]

        attempts, lockers, served = [], [], self.idempotency(app, store_timeout=0.2)
        with self.assertRaisesRegex(ValueError, "its own words"):
            self.ask(served)
        lockers[0].communicate()
        self.assertEqual(self.ask(served).body, b"done")
        self.assertEqual(attempts, [1, 2])

    def test_a_corrupt_record_is_never_an_answer(self):
        app = App()
        served = self.idempotency(app)
        name, asked = [], served._identify
        served._identify = lambda environ: name.append(asked(environ)) or name[-1]
        table = self.table()
        for data, status in [(b"\x02", 200), (record.encode([], b""), 99)]:
            self.sent_key = uuid.uuid4().hex
            self.ask(served, "PUT")
            table.forget(name[-1].name)
            table.begin(name[-1].name, fingerprint=name[-1].fingerprint).complete(data, status)
            self.assertEqual(self.ask(served, "PUT").problem, "record-corrupt")
        self.assertEqual(len(app.executions), 2)

    def test_mistakes_are_told_at_once(self):
        with self.assertRaises(TypeError):
            Idempotency(App(), self.url, no_such_option=1)
        with self.assertRaises(onceflight.InvalidArgument):
            self.ask(Idempotency(App(), "no such store"))

    def test_each_process_has_a_table_of_its_own(self):
        """A worker that is forked after requests were served opens its own."""
        app = App()
        served = Idempotency(app, "memory:")
        self.addCleanup(served.table.close)
        self.assertEqual(self.ask(served).body, b"execution 1")
        self.assertEqual(in_child(lambda: self.ask(served).body), "b'execution 2'")
        self.assertTrue(self.ask(served).replayed)

    def test_an_sqlite_file_must_not_be_open_at_the_fork(self):
        served = self.idempotency(App())
        self.ask(served)
        self.assertIn("Forked", in_child(lambda: self.ask(served).problem))


if __name__ == "__main__":
    unittest.main()
