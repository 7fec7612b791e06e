"""Runs the example server on libmicrohttpd as a program of its own, and asks it: server_microhttpd_test.py PROGRAM"""

import http.client
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid

PATIENCE = 60  # seconds
program = sys.argv[1]


class Server:
    def __init__(self, store):
        command = [program, "--port", "0", "--store", store]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[-1]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.stdout.close()
        return self.process.wait(PATIENCE)

    def pay(self, body, key, path="/payments", method="POST"):
        """Status, body, whether it was replayed."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {} if key is None else {"Idempotency-Key": key})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Idempotent-Replayed") == "true"
        finally:
            connection.close()


class Microhttpd(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.store = f"sqlite:{directory.name}/payments.db"
        self.key = f'"{uuid.uuid4()}"'

    def server(self, store=None):
        server = Server(store or self.store)
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        return server

    def test_one_key_is_one_execution(self):
        for store in ("memory:", self.store):
            server = self.server(store)
            first = server.pay(b"100", self.key)
            self.assertEqual(first, (201, b"payment 1, attempt 1: 100\n", False))
            self.assertEqual(server.pay(b"100", self.key), (*first[:2], True))
            status, _, replayed = server.pay(b"999", self.key)
            self.assertEqual((status, replayed), (422, False))
            self.assertEqual(server.pay(b"100", '"another"'), (201, b"payment 2, attempt 1: 100\n", False))
            self.assertEqual(server.stop(), 0)

    def test_at_once(self):
        server, told = self.server(), []
        threads = [threading.Thread(target=lambda: told.append(server.pay(b"1", self.key))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual({answer[:2] for answer in told}, {(201, b"payment 1, attempt 1: 1\n")})
        self.assertEqual(sorted(answer[2] for answer in told), [False] + [True] * 15)

    def test_a_record_outlives_its_server(self):
        server = self.server()
        first = server.pay(b"100", self.key)
        server.stop(signal.SIGKILL)
        self.assertEqual(self.server().pay(b"100", self.key), (*first[:2], True))

    def test_refusals(self):
        server = self.server()
        for key in (None, "bare", '""', '"a', '"a"b"', '"%s"' % ("k" * 256)):
            self.assertEqual(server.pay(b"1", key)[0], 400, key)
        self.assertEqual(server.pay(b"1", self.key, path="/other")[0], 404)
        self.assertEqual(server.pay(b"1", self.key, method="PUT")[0], 404)
        self.assertEqual(server.pay(b"x" * 65537, self.key)[0], 413)
        self.assertEqual(server.pay(b"x" * 65536, self.key)[0], 201)


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"server_microhttpd: {result.testsRun - failed} passed, {failed} failed")
    sys.exit(failed != 0)
