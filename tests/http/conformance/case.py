"""What the cases share."""

import json
import random
import threading
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor

from client import Reply
from origin import PATIENCE, Answer, Origin

# What clients call the service, whichever of its servers they get to.
HOST = "service.example"

__all__ = ["Answer", "Case", "PATIENCE", "World", "needs"]


class World:
    """The origin, the store, and the servers that are running."""

    def __init__(self, target, store, send, seed):
        self.target, self.store, self.send = target, store, send
        self.seed = random.randrange(1 << 32) if seed is None else seed
        self.origin = Origin()
        self.usual = {}  # servers that cases share, by their options
        self.started = []
        self.lock = threading.Lock()

    def start(self, options):
        options = {"store": self.store.url, "origin": self.origin.url, **options}
        server = self.target.start(options)
        self.started.append(server)
        return server

    def shared(self, options):
        name = json.dumps(options, sort_keys=True)
        with self.lock:
            if name not in self.usual:
                self.usual[name] = self.start(options)
            return self.usual[name]

    def close(self):
        for server in self.started:
            server.kill()
        self.origin.close()


def needs(*features):
    """Skips a case on servers that lack an option, and on stores that can't do something."""

    def mark(case):
        case.needs = features
        return case

    return mark


class Case(unittest.TestCase):
    """A path of its own, and ways to send requests to it."""

    world = None
    maxDiff = None

    def setUp(self):
        method = getattr(self, self._testMethodName)
        for feature in getattr(method, "needs", ()):
            if feature in self.world.target.lacks or getattr(self.store, feature, True) is False:
                self.skipTest(f"no {feature}")
        self.key = uuid.uuid4().hex
        self.path = f"/{self._testMethodName}/{self.key[:8]}"
        self.threads = ThreadPoolExecutor(64)
        self.addCleanup(self.threads.shutdown)

    origin = property(lambda self: self.world.origin)
    store = property(lambda self: self.world.store)

    def server(self, **options):
        """One with these options, that other cases use too."""
        return self.world.shared(options)

    def own_server(self, **options):
        """One of this case's own, to be killed."""
        return self.world.start(options)

    def send(self, method, path=None, *, key=None, header=None, body=b"payload", headers=(), at=None):
        """Sends a request with this key in quotes, or with this very header."""
        header = f'"{key}"' if key is not None else header
        headers = [*headers, *([("Idempotency-Key", header)] if header is not None else [])]
        if not any(name.lower() == "host" for name, _ in headers):
            headers.insert(0, ("Host", HOST))
        at = at or self.server()
        return self.world.send(at.address, method, path or self.path, headers, body)

    def post(self, path=None, **more):
        """One with this case's key, if it isn't told otherwise."""
        if "header" not in more:
            more.setdefault("key", self.key)
        return self.send("POST", path, **more)

    def head(self):
        """How a POST with this case's key begins, byte by byte; a length is still to be said."""
        lines = f'POST {self.path} HTTP/1.1\r\nHost: {HOST}\r\nIdempotency-Key: "{self.key}"\r\n'
        return lines.encode()

    def later(self, call, *arguments, **more):
        return self.threads.submit(call, *arguments, **more)

    def at_once(self, count, call):
        """What `count` threads get that all call at once, with their numbers."""
        barrier = threading.Barrier(count)

        def one(number):
            barrier.wait(PATIENCE)
            return call(number)

        return [done.result(PATIENCE) for done in [self.later(one, number) for number in range(count)]]

    def executed(self, count, path=None):
        """That a path was executed so often."""
        self.assertEqual(len(self.origin.executions(path or self.path)), count, "executions")

    def told(self, reply, status=201, replayed=False, body=None):
        self.assertEqual((reply.status, reply.replayed), (status, replayed), reply)
        if body is not None:
            self.assertEqual(reply.body, body)

    def replays(self, again: Reply, first: Reply):
        """That it is the same response, told again."""
        self.assertTrue(again.replayed, again)
        self.assertEqual(again.essence, first.essence)

    def problem(self, reply, status, kind):
        """That it is this refusal, as RFC 9457 has it."""
        self.assertEqual(reply.status, status, reply)
        self.assertFalse(reply.replayed)
        self.assertEqual(reply.header("content-type"), "application/problem+json")
        told = json.loads(reply.body)
        self.assertEqual(told["status"], status)
        self.assertTrue(told["type"].endswith(kind), told)
        self.assertTrue(told["title"] and told["detail"])
        return told

    def passes(self, reply, seconds=None):
        """That it says when to try again."""
        after = int(reply.header("retry-after"))
        self.assertGreaterEqual(after, 1)
        if seconds is not None:
            self.assertEqual(after, seconds)
