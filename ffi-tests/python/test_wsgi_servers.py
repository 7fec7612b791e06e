"""`onceflight.wsgi` before Flask and Django, under gunicorn (worker processes, threads) and waitress."""

import http.client
import json
import os
import signal
import tempfile
import unittest
import uuid
from pathlib import Path

import wsgi_servers
from stores import PATIENCE, SERVERS, Thread
from support import until
from wsgi_servers import gunicorn, waitress

COUNT = 16  # requests at once


class Reply:
    def __init__(self, answer):
        self.code, self.headers, self.body = answer.status, answer.getheaders(), answer.read()
        self.replayed = answer.getheader("Idempotent-Replayed") == "true"

    @property
    def told(self):
        """What a replay has to have too."""
        passing = {"date", "server", "connection", "transfer-encoding", "content-length", "idempotent-replayed"}
        return self.code, [pair for pair in self.headers if pair[0].lower() not in passing], self.body


class Served:
    """The tests, of one server before one framework over one store."""

    @classmethod
    def setUpClass(cls):
        if wsgi_servers.python() is None:
            raise unittest.SkipTest("no frameworks and servers")
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        cls.log = Path(cls.directory.name, "log")
        url = cls.url or f"sqlite:{cls.directory.name}/records.db"
        cls.server = wsgi_servers.Server(cls.command, url, cls.log)
        cls.addClassCleanup(cls.server.close)

    def setUp(self):
        self.log.write_text("")
        self.key = uuid.uuid4().hex

    def ask(self, path="/pay", body=b"100", key=""):
        connection = http.client.HTTPConnection(self.server.address, timeout=PATIENCE)
        headers = {} if key is None else {"Idempotency-Key": f'"{key or self.key}"'}
        try:
            connection.request("POST", path, body, headers)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def executions(self):
        """Who executed, and as which attempt."""
        return [tuple(map(int, line.split())) for line in self.log.read_text().splitlines()]

    def test_a_retry_has_the_first_response(self):
        for path, code, body in [("/pay", 201, b""), ("/stream", 202, b"in pieces: "), ("/file", 200, b"")]:
            with self.subTest(path=path):
                self.setUp()
                first = self.ask(path)
                self.assertEqual((first.code, first.body, first.replayed), (code, body + b"execution 1", False))
                for _ in range(4):  # by whichever worker
                    again = self.ask(path)
                    self.assertEqual((again.told, again.replayed), (first.told, True))
                self.assertEqual(len(self.executions()), 1)
        self.assertEqual(sum(name.lower() == "set-cookie" for name, _ in self.ask("/pay").headers), 2)

    def test_many_at_once_are_one_execution(self):
        replies = [asking.result() for asking in [Thread(self.ask) for _ in range(COUNT)]]
        self.assertEqual(len(self.executions()), 1)
        self.assertEqual(sum(not reply.replayed for reply in replies), 1)
        self.assertEqual({(reply.code, reply.body) for reply in replies}, {(201, b"execution 1")})

    def test_refusals(self):
        self.ask()
        for code, kind, asked in [
            (422, "key-reused", {"body": b"999"}),
            (400, "key-missing", {"key": None}),
            (400, "key-invalid", {"key": "a" * 256}),
        ]:
            reply = self.ask(**asked)
            self.assertEqual((reply.code, json.loads(reply.body)["type"].rpartition(":")[2]), (code, kind))
        self.assertEqual(len(self.executions()), 1)

    def test_a_body_in_chunks_is_the_same(self):
        self.ask(body=b"12345")
        again = self.ask(body=iter([b"123", b"45"]))
        self.assertTrue(again.replayed, again.told)
        self.assertEqual(self.ask(body=iter([b"123", b"46"])).code, 422)


class Workers(Served):
    def test_a_worker_that_is_killed(self):
        """Its client hears nothing; the retry is executed by another, as attempt 2."""
        lost = Thread(self.ask, body=b"hang")
        until(self.executions, "the first attempt")
        ((worker, attempt),) = self.executions()
        os.kill(worker, signal.SIGKILL)
        with self.assertRaises((ConnectionError, http.client.HTTPException)):
            lost.result()
        retry = self.ask(body=b"hang")
        self.assertEqual((attempt, retry.code, retry.replayed), (1, 201, False))
        (_, (other, second)) = self.executions()
        self.assertEqual((second, other != worker), (2, True))
        self.assertTrue(self.ask(body=b"hang").replayed)


STORES = {"Sqlite": None, **{name: url for name, url in SERVERS.items() if name == "Postgres"}}


def over_stores(ways, module):
    """A class of tests for each way to be served, over each store."""
    for way, (command, base) in ways.items():
        for store, url in STORES.items():
            name = f"{way}Over{store}"
            parts = {"command": command, "url": url, "__module__": module["__name__"]}
            module[name] = type(name, (base, unittest.TestCase), parts)


WAYS = {
    "FlaskUnderGunicorn": (gunicorn("flask", "--workers", "2"), Workers),
    "FlaskUnderGunicornPreloaded": (gunicorn("flask", "--workers", "2", "--preload"), Workers),
    "DjangoUnderGunicorn": (gunicorn("django", "--workers", "2"), Workers),
    "DjangoUnderGunicornThreads": (gunicorn("django", "--workers", "2", "--threads", "8"), Workers),
    "FlaskUnderWaitress": (waitress("flask"), Served),
    "DjangoUnderWaitress": (waitress("django"), Served),
}
over_stores(WAYS, globals())


if __name__ == "__main__":
    unittest.main()
