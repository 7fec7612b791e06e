"""The suite that every server with Idempotency-Key passes (tests/http/conformance), on the WSGI middleware."""

import subprocess
import sys
import unittest
from pathlib import Path

import wsgi_servers
from capi import LIBRARY, PATIENCE, ROOT

SUITE = ROOT / "tests" / "http" / "conformance"
# Not how a server reads requests: that is the server's.
CASES = ("test_keys", "test_progress", "test_checkpoints", "test_outcomes", "test_store")


@unittest.skipUnless(SUITE.exists(), "the suite isn't in this tree")
class Suite:
    target = None  # the server's file

    def passes(self, python, server, *lacks, store="sqlite:"):
        """What raises is a 500, said by the server. And nobody tells a query that is empty."""
        lacks = ",".join(["panics", "empty_query", *lacks])
        done = subprocess.run(
            [sys.executable, str(SUITE), "--store", store, "--lacks", lacks, *CASES, "--", python, str(self.target), server],
            env=dict(wsgi_servers.os.environ, ONCEFLIGHT_LIBRARY=LIBRARY), timeout=4 * PATIENCE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)


class Conformance(Suite, unittest.TestCase):
    target = Path(__file__).with_name("wsgi_target.py")

    def test_the_standard_librarys_server(self):
        self.passes(sys.executable, "wsgiref", "keep_alive", "chunks")

    def test_waitress(self):
        python = wsgi_servers.python()
        if python is None:
            self.skipTest("no waitress")
        self.passes(python, "waitress")


if __name__ == "__main__":
    unittest.main()
