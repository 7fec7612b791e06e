"""The suite that every server with Idempotency-Key passes (tests/http/conformance), on the ASGI middleware."""

import unittest
from pathlib import Path

import test_wsgi_conformance
import wsgi_servers


class Conformance(test_wsgi_conformance.Suite, unittest.TestCase):
    target = Path(__file__).with_name("asgi_target.py")

    def setUp(self):
        self.python = wsgi_servers.python()
        if self.python is None:
            self.skipTest("no uvicorn and hypercorn")

    def test_uvicorn(self):
        """It hangs up on clients that close their side, as they do in what it lacks."""
        self.passes(self.python, "uvicorn", "keep_alive", "chunks")

    def test_in_memory(self):
        """What is lost there leaves no checkpoint."""
        self.passes(self.python, "uvicorn", "keep_alive", "chunks", "checkpoints", store="memory:")

    def test_hypercorn(self):
        self.passes(self.python, "hypercorn")


if __name__ == "__main__":
    unittest.main()
