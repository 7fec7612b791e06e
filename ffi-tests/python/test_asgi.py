"""`onceflight.asgi` without a server: what it asks of an application, and what it answers for one.

What a client sees is the HTTP suite's to test: test_asgi_conformance.py. What the middlewares have in common is in
test_wsgi.py.
"""

import asyncio
import contextvars
import json
import unittest
import uuid

import test_wsgi
from stores import PATIENCE, Sqlite, Thread
from support import onceflight
from onceflight import wsgi
from onceflight.asgi import EXECUTION, Idempotency, Requirement
from test_aio import bounded, waiting

CROWD = 1000


async def turns(loops=100):
    """Lets everything happen that waits for nothing but its turn."""
    for _ in range(loops):
        await asyncio.sleep(0)


class Reply:
    """What an application has sent."""

    def __init__(self, messages):
        start, *pieces = messages
        assert not pieces[-1].get("more_body") and all(piece.get("more_body") for piece in pieces[:-1]), messages
        self.code, self.headers = start["status"], start["headers"]
        self.body = b"".join(piece["body"] for piece in pieces)

    def header(self, name):
        found = [value.decode("latin-1") for field, value in self.headers if field == name.encode()]
        return found[0] if found else None

    @property
    def replayed(self):
        return self.header("idempotent-replayed") == "true"

    @property
    def problem(self):
        assert self.header("content-type") == "application/problem+json", self.headers
        return json.loads(self.body)["type"].rpartition(":")[2]


class App:
    """Counts, and answers as it is told; if it is `held`, not before it is opened."""

    def __init__(self, code=201, headers=(), body=None, held=False):
        self.code, self.headers, self.body = code, list(headers), body
        self.executions = []
        self.started, self.open, self.sending = asyncio.Event(), asyncio.Event(), asyncio.Event()
        if not held:
            self.open.set()

    async def __call__(self, scope, receive, send):
        self.executions.append((scope.get(EXECUTION), (await receive())["body"]))
        body = b"execution %d" % len(self.executions) if self.body is None else self.body
        self.started.set()
        await self.open.wait()
        self.sending.set()
        await respond(send, body, self.code, self.headers)

    def attempts(self):
        return [execution.attempt for execution, _ in self.executions]


async def respond(send, body=b"", code=201, headers=()):
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body[:3], "more_body": True})
    await send({"type": "http.response.body", "body": body[3:]})


def receiving(*pieces):
    """The server's receive, of a client that then goes on listening."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False
    messages.reverse()

    async def receive():
        return messages.pop() if messages else await asyncio.Event().wait()

    return receive


class Case(Sqlite, unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.sent_key = uuid.uuid4().hex

    def idempotency(self, app, *, make=Idempotency, **options):
        made = make(app, self.url, **{"wait": PATIENCE, **options})
        self.addCleanup(lambda: made.table.close())
        return made

    def scope(self, method="POST", path="/pay", key="", headers=(), **more):
        """What a server would tell; `key` "" is this test's, None is none."""
        key = f'"{self.sent_key}"' if key == "" else key
        headers = [*headers, *([(b"idempotency-key", key.encode())] if key is not None else [])]
        return {
            "type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, **more,
        }  # fmt: skip

    async def ask(self, app, *arguments, body=b"payload", **more):
        told = []

        async def send(message):
            told.append(message)

        pieces = body if isinstance(body, tuple) else (body,)
        await app(self.scope(*arguments, **more), receiving(*pieces), send)
        return Reply(told)

    def asking(self, *arguments, **more):
        return asyncio.ensure_future(self.ask(*arguments, **more))

    async def led(self, app, followers=0, **options):
        """A request that is executed, and others that wait for it."""
        served = self.idempotency(app, **options)
        first = self.asking(served)
        await app.started.wait()
        waits = [self.asking(served) for _ in range(followers)]
        await waiting(served.table, followers)
        return served, first, waits


class Requests(Case):
    @bounded
    async def test_a_retry_has_the_first_response(self):
        app = App(headers=[(b"Set-Cookie", b"a=\xff"), (b"date", b"then"), (b"set-cookie", b"b=2")])
        served = self.idempotency(app)
        first, again = await self.ask(served), await self.ask(served, body=(b"pay", b"", b"load"))
        self.assertEqual((first.code, first.replayed, again.code, again.replayed), (201, False, 201, True))
        self.assertEqual((again.body, again.header("content-length")), (first.body, str(len(first.body))))
        kept = [pair for pair in again.headers if pair[0] == b"set-cookie"]
        self.assertEqual(kept, [(b"set-cookie", b"a=\xff"), (b"set-cookie", b"b=2")])
        self.assertEqual((first.header("date"), again.header("date")), ("then", None))
        ((execution, body),) = app.executions
        self.assertEqual((execution.key, execution.attempt, body), (self.sent_key, 1, b"payload"))
        for problem, asked in [
            ("key-reused", {"body": b"another"}),
            ("key-reused", {"query_string": b"a=1"}),
            ("key-missing", {"key": None}),
            ("key-invalid", {"headers": [(b"idempotency-key", b'"a"')]}),  # beside the other
        ]:
            self.assertEqual((await self.ask(served, **asked)).problem, problem)

    @bounded
    async def test_a_thousand_at_once_are_one_execution(self):
        app = App(held=True)
        _, first, waits = await self.led(app, CROWD - 1)
        app.open.set()
        replies = await asyncio.gather(first, *waits)
        self.assertEqual({(reply.code, reply.body) for reply in replies}, {(201, b"execution 1")})
        self.assertEqual([reply.replayed for reply in replies], [False] + [True] * (CROWD - 1))
        self.assertEqual(len(app.executions), 1)

    @bounded
    async def test_a_wait_holds_nobody_up(self):
        """One is executed, and others wait for it: the loop serves what has another key, or none."""
        app, other = App(held=True), App(200)
        served, first, waits = await self.led(app, 2)
        self.assertEqual((await self.ask(self.idempotency(other), path="/other")).code, 200)
        self.assertEqual((await self.ask(self.idempotency(other), "GET", key=None)).code, 200)
        served._wait = 0
        told = await self.ask(served)
        self.assertEqual((told.problem, told.header("retry-after")), ("in-progress", "1"))
        app.open.set()
        self.assertEqual({reply.body for reply in await asyncio.gather(first, *waits)}, {b"execution 1"})

    @bounded
    async def test_those_who_wait_share_what_isnt_kept(self):
        for code in (503, 500):
            self.sent_key, app = uuid.uuid4().hex, App(code, held=True)
            served, first, waits = await self.led(app, 2)
            app.open.set()
            for reply in await asyncio.gather(first, *waits):
                self.assertEqual((reply.code, reply.body), (code, b"execution 1"))
            await self.ask(served)
            self.assertEqual(app.attempts(), [1, 1 if code == 503 else 2])

    @bounded
    async def test_loops_wait_for_each_other(self):
        app = App(held=True)
        served, first, _ = await self.led(app)
        other = Thread(asyncio.run, self.ask(served))
        await waiting(served.table, 1)
        app.open.set()
        self.assertFalse((await first).replayed)
        self.assertTrue((await asyncio.to_thread(other.result)).replayed)

    @bounded
    async def test_choices(self):
        app = App(200, headers=[(b"x-secret", b"1")])
        served = self.idempotency(
            app,
            make=Idempotency.created_then_ok,
            require=lambda method, path: Requirement.REQUIRED if path == "/pay" else Requirement.OFF,
            principal=lambda scope: scope["client"][0],
            payload=lambda scope, body: body[:3],
            strip=["X-Secret"],
        )
        ada, bob = {"client": ("ada", 1)}, {"client": ("bob", 1)}
        first = await self.ask(served, body=b"one and", **ada)
        again = await self.ask(served, body=b"one or", **ada)
        self.assertEqual((first.code, again.code, again.body), (201, 200, first.body))
        self.assertEqual((first.header("x-secret"), again.header("x-secret")), ("1", None))
        self.assertFalse((await self.ask(served, **bob)).replayed)
        self.assertEqual((await self.ask(served, "GET", key=None, **ada)).problem, "key-missing")
        self.assertEqual((await self.ask(served, path="/other", key=None)).code, 200)


class RequestsInMemory(Requests):
    def setUp(self):
        super().setUp()
        self.url = "memory:"


class Passing(Case):
    @bounded
    async def test_what_has_no_key_is_untouched(self):
        """So is what isn't HTTP. Not even the table is opened: this one couldn't be."""

        async def app(*given):
            seen.append(given)

        seen, served = [], Idempotency(app, "sqlite:/no/such/directory/a.db")
        for scope in [{"type": "lifespan"}, {"type": "websocket"}, self.scope("GET"), self.scope("PUT", key=None)]:
            before = dict(scope)
            await served(scope, "receive", "send")
            self.assertIs(seen[-1][0], scope)
            self.assertEqual((seen[-1], scope), ((scope, "receive", "send"), before))

    @bounded
    async def test_bodies(self):
        app = App()
        served = self.idempotency(app, max_request=10)
        await self.ask(served, body=(b"01234", b"56789"))
        self.assertTrue((await self.ask(served, body=b"0123456789")).replayed)
        self.assertEqual((await self.ask(served, body=(b"0123456789", b"0"))).problem, "request-too-large")

        async def unread():
            raise AssertionError("what is too long isn't read")

        async def send(message):
            told.append(message)

        told = []
        await served(self.scope(headers=[(b"content-length", b"11")]), unread, send)
        self.assertEqual(Reply(told).problem, "request-too-large")

        messages, told = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"01", "more_body": True}], []

        async def receive():
            return messages.pop()

        await served(self.scope(), receive, send)
        self.assertEqual(Reply(told).problem, "request-incomplete")
        self.assertEqual(app.executions[0][1], b"0123456789")
        self.assertEqual(len(app.executions), 1)

    @bounded
    async def test_wsgi_and_asgi_replay_each_other(self):
        over_asgi, over_wsgi = self.idempotency(App()), self.idempotency(test_wsgi.App(), make=wsgi.Idempotency)
        for raw, decoded in [(b"/pay", "/pay"), (b"/%C3%A4%2Fb", "/\u00c3\u00a4/b"), (b"/%ff%25", "/\xff%")]:
            for asgi_first in (True, False):
                self.sent_key = uuid.uuid4().hex
                headers = [(b"authorization", b"\xe4da")]
                asked = {"raw_path": raw, "query_string": b"q=%C3%A4", "headers": headers}
                environ = {"path": decoded, "QUERY_STRING": "q=%C3%A4", "HTTP_AUTHORIZATION": "\xe4da"}

                async def by_asgi(asked=asked):
                    return await self.ask(over_asgi, **asked)

                async def by_wsgi(environ=environ):
                    return await asyncio.to_thread(test_wsgi.Case.ask, self, over_wsgi, **environ)

                ways = [by_asgi, by_wsgi] if asgi_first else [by_wsgi, by_asgi]
                first, again = [await way() for way in ways]
                self.assertEqual((first.replayed, again.replayed, again.body), (False, True, first.body), raw)

    @bounded
    async def test_a_path_without_its_bytes(self):
        """`raw_path` needn't be told."""
        served = self.idempotency(App())
        await self.ask(served, path="/\xe4", raw_path=b"/%C3%A4")
        self.assertTrue((await self.ask(served, path="/\xe4", raw_path=None)).replayed)
        self.assertTrue((await self.ask(served, path="/\xe4")).replayed)


class Applications(Case):
    @bounded
    async def test_they_see_their_request(self):
        """And no way of sending what isn't collected."""

        async def app(scope, receive, send):
            seen.extend([scope, var.get(), await receive()])
            var.set("of the execution")
            await respond(send)
            seen.append(await receive())

        var, seen = contextvars.ContextVar("var"), []
        var.set("of the request")
        state, tls = {}, {"tls_version": 772}
        extensions = {"http.response.pathsend": {}, "http.response.trailers": {}, "tls": tls}
        await self.ask(self.idempotency(app), state=state, extensions=extensions)
        scope, inside, message, last = seen
        self.assertEqual((inside, var.get()), ("of the request", "of the request"))
        self.assertIs(scope["state"], state)
        self.assertEqual(scope["extensions"], {"tls": tls})
        self.assertEqual(message, {"type": "http.request", "body": b"payload", "more_body": False})
        self.assertEqual(last, {"type": "http.disconnect"})

    @bounded
    async def test_head_has_no_body(self):
        app = App(headers=[(b"content-length", b"11")])
        served = self.idempotency(app, require=lambda method, path: Requirement.REQUIRED)
        for replayed in (False, True):
            told = await self.ask(served, "HEAD", body=b"")
            self.assertEqual((told.code, told.body, told.replayed), (201, b"", replayed))

    @bounded
    async def test_what_isnt_the_protocol(self):
        start, body = {"type": "http.response.start", "status": 200}, {"type": "http.response.body"}
        trailers = {"type": "http.response.trailers", "headers": []}
        for messages, why in [
            ([], "before its response was whole"),
            ([start, {**body, "more_body": True}], "before its response was whole"),
            ([body], "not http.response.start"),
            ([start, start], "not http.response.body"),
            ([start, trailers], "not http.response.body"),
        ]:

            async def app(scope, receive, send, messages=messages):
                for message in messages:
                    await send(message)

            with self.assertRaisesRegex(RuntimeError, why):
                await self.ask(self.idempotency(app))

    @bounded
    async def test_what_comes_behind_the_response(self):
        """A background task: its client doesn't wait for it, and what it raises changes nothing."""

        async def app(scope, receive, send):
            await respond(send, b"whole")
            await behind.wait()
            raise LookupError("behind")

        async def send(message):
            told.append(message)
            if message["type"] == "http.response.body":
                answered.set()

        behind, answered, told = asyncio.Event(), asyncio.Event(), []
        served = self.idempotency(app)
        asking = asyncio.ensure_future(served(self.scope(), receiving(b"payload"), send))
        await answered.wait()
        self.assertEqual(Reply(told).body, b"whole")
        again = await self.ask(served)
        self.assertEqual((again.body, again.replayed, asking.done()), (b"whole", True, False))
        behind.set()
        with self.assertRaisesRegex(LookupError, "behind"):
            await asking

    @bounded
    async def test_too_large_to_keep(self):
        served = self.idempotency(App(body=b"x" * 100), max_response_len=50)
        self.assertEqual((await self.ask(served)).body, b"x" * 100)
        self.assertEqual((await self.ask(served)).problem, "response-not-kept")


    @bounded
    async def test_without_keys(self):
        app = App(200)
        with self.assertWarnsRegex(UserWarning, "disabled") as warned:
            served = Idempotency(app, "sqlite:/nowhere/at all", disabled=True, successes=(202, 200))
        self.assertEqual(warned.filename, __file__)
        for key in ("", None, "none"):
            self.assertEqual((await self.ask(served, key=key)).code, 202)
        self.assertEqual((await self.ask(served, "GET", key=None)).code, 200)
        found = [execution for execution, _ in app.executions]
        self.assertEqual((found[0].key, found[1].attempt, found[3]), (self.sent_key, 1, None))


class Ends(Case):
    @bounded
    async def test_what_raises_may_have_happened(self):
        async def app(scope, receive, send):
            attempts.append(scope[EXECUTION].attempt)
            await send({"type": "http.response.start", "status": 201})
            if len(attempts) == 1:
                raise LookupError("midway")
            await send({"type": "http.response.body", "body": b"second"})

        attempts, served = [], self.idempotency(app)
        with self.assertRaisesRegex(LookupError, "midway"):
            await self.ask(served)
        self.assertEqual((await self.ask(served)).body, b"second")
        self.assertEqual(attempts, [1, 2])

    @bounded
    async def test_what_an_execution_leaves(self):
        async def app(scope, receive, send):
            found.append(scope[EXECUTION].checkpoint)
            await asyncio.to_thread(scope[EXECUTION].set_checkpoint, b"charged")
            await respond(send, code=500 if len(found) == 1 else 201)

        found, served = [], self.idempotency(app)
        self.assertEqual([(await self.ask(served)).code for _ in range(2)], [500, 201])
        self.assertEqual(found, [None, b"charged"])

    @bounded
    async def test_then_the_next_in_line_leads(self):
        async def app(scope, receive, send):
            executions.append(scope[EXECUTION])
            app.started.set()
            await go.wait()
            if len(executions) == 1:
                raise LookupError
            await respond(send, b"second")

        executions, app.started, go = [], asyncio.Event(), asyncio.Event()
        _, first, waits = await self.led(app, 2)
        go.set()
        with self.assertRaises(LookupError):
            await first
        self.assertEqual([(await wait).body for wait in waits], [b"second"] * 2)
        self.assertEqual([execution.attempt for execution in executions], [1, 2])

    @bounded
    async def test_a_client_that_leaves_changes_nothing(self):
        """Its request is executed to the end, and kept; the server isn't spoken to any more."""
        app = App(held=True)
        served, first, (wait,) = await self.led(app, 1)
        first.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await first
        app.open.set()
        self.assertEqual(((await wait).body, (await wait).replayed), (b"execution 1", True))
        self.assertEqual(((await self.ask(served)).body, len(app.executions)), (b"execution 1", 1))
        while served._executions:
            await asyncio.sleep(0)

    @bounded
    async def test_no_disconnect_is_heard_before_the_response_is_whole(self):
        """As frameworks listen: whoever leaves would stop the execution."""

        async def app(scope, receive, send):
            await receive()
            leaving = asyncio.ensure_future(receive())
            await turns()
            await respond(send, b"whole" if not leaving.done() else b"left")
            self.assertEqual(await leaving, {"type": "http.disconnect"})

        messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"payload"}]

        async def receive():
            return messages.pop()

        async def send(message):
            told.append(message)

        told, served = [], self.idempotency(app)
        await served(self.scope(), receive, send)
        self.assertEqual(Reply(told).body, b"whole")

    @bounded
    async def test_a_cancelled_wait_leaves_the_line(self):
        app = App(held=True)
        served, first, waits = await self.led(app, 3)
        waits[0].cancel()
        await waiting(served.table, 2)
        app.open.set()
        self.assertEqual({reply.body for reply in await asyncio.gather(first, *waits[1:])}, {b"execution 1"})

    def test_the_loops_end_is_an_executions(self):
        async def lost():
            app = App(held=True)
            served, first, _ = await self.led(app)
            first.cancel()
            await asyncio.wait([first])
            return served

        async def retried():
            served._app = app = App()
            self.assertEqual((await self.ask(served)).body, b"execution 1")
            self.assertEqual(app.attempts(), [2])

        served = asyncio.run(lost())
        self.assertEqual(served._executions, set())
        asyncio.run(retried())


class Stores(Case):
    @bounded
    async def test_the_loop_goes_on_while_the_store_is_asked(self):
        """The claim and the record wait for a lock, which is let go by the loop itself."""
        app = App(held=True)
        served = self.idempotency(app)
        served.table
        locker = await asyncio.to_thread(self.locked)
        asked = self.asking(served)
        await turns()
        self.assertFalse(app.started.is_set())
        locker.communicate("")
        await app.started.wait()
        locker = await asyncio.to_thread(self.locked)
        app.open.set()
        await app.sending.wait()
        await turns()
        self.assertFalse(asked.done())
        locker.communicate("")
        self.assertEqual((await asked).body, b"execution 1")
        self.assertTrue((await self.ask(served)).replayed)

    @bounded
    async def test_a_wait_that_the_store_outlasts(self):
        """What it hasn't answered yet isn't in progress."""
        served = self.idempotency(App(), wait=0.02)
        served.table
        locker = await asyncio.to_thread(self.locked)
        asked = self.asking(served)
        await asyncio.wait([asked], timeout=0.2)
        locker.communicate("")
        self.assertEqual((await asked).body, b"execution 1")

    @bounded
    async def test_a_short_wait_counts_as_one(self):
        app = App(held=True)
        served, first, _ = await self.led(app, wait=0.02)
        self.assertEqual((await self.ask(served)).problem, "in-progress")
        self.assertEqual(served.table.stats().timeouts, 1)
        app.open.set()
        await first

    @bounded
    async def test_so_it_does_when_the_application_raises(self):
        """And the store is told before the client is."""

        async def app(scope, receive, send):
            lockers.append(await asyncio.to_thread(self.locked))
            raise LookupError

        lockers, served = [], self.idempotency(app)
        asked = self.asking(served)
        while not lockers:
            await asyncio.sleep(0)
        await turns()
        self.assertFalse(asked.done())
        lockers[0].communicate("")
        with self.assertRaises(LookupError):
            await asked
        served._app = again = App()
        await self.ask(served)
        self.assertEqual(again.attempts(), [2])

    @bounded
    async def test_a_table_is_opened_beside_the_loop(self):
        """Once, whoever comes first."""
        served, main = self.idempotency(App()), []
        opening = served._open
        served._open = lambda: main.append(running()) or opening()
        replies = await asyncio.gather(*[self.ask(served, key=f'"{number}"') for number in range(20)])
        self.assertEqual({reply.code for reply in replies}, {201})
        self.assertEqual(main, [False])
        self.assertEqual(served._openings, {})

    @bounded
    async def test_a_store_that_is_away_is_503(self):
        app = App()
        served = Idempotency(app, "sqlite:/no/such/directory/a.db")
        with self.assertLogs("onceflight.asgi", "ERROR") as logs:
            told = await self.ask(served)
        self.assertEqual((told.code, told.problem, told.header("retry-after")), (503, "unavailable", "1"))
        self.assertEqual((app.executions, len(logs.output)), ([], 1))

    @bounded
    async def test_what_the_store_cant_be_told(self):
        """The client has its response, and nobody else executes it for certain."""

        async def app(scope, receive, send):
            lockers.append(await asyncio.to_thread(self.locked))
            await respond(send, b"done")

        lockers, served = [], self.idempotency(app, store_timeout=0.2, on_lease_expired="hold")
        with self.assertLogs("onceflight.asgi", "ERROR"):
            self.assertEqual((await self.ask(served)).body, b"done")
        lockers[0].communicate()
        self.assertEqual((await self.ask(served)).problem, "outcome-unknown")

    @bounded
    async def test_mistakes_are_told_at_once(self):
        with self.assertRaises(TypeError):
            Idempotency(App(), self.url, no_such_option=1)
        with self.assertRaises(onceflight.InvalidArgument):
            await self.ask(Idempotency(App(), "no such store"))


def running():
    """Whether this is a loop's thread."""
    try:
        return asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


if __name__ == "__main__":
    unittest.main()
