"""Requests that aren't quite: no panic, no hang, no failure of the server's own, and nothing half executed."""

import random
import re

from client import raw
from case import Case

ROUNDS = 1500
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Malformed(Case):
    def test_04_malformed_requests(self):
        print(f"--seed {self.world.seed}", end=" ", flush=True)
        draw = random.Random(self.world.seed)
        server = self.own_server()
        before, answered = self.origin.count(), 0
        for number in range(ROUNDS):
            request = self.request(draw, number)
            said = raw(server.address, request)
            answers = [it for it in STATUS.findall(said) if it[0] != b"100"]
            with self.subTest(request=request[:400], said=said[:400]):
                self.assertTrue(answers or not said, "not HTTP")
                for status, fields in answers:
                    self.assertIn(status[:1], b"24")
                    answered += status[:1] == b"2" and b"idempotent-replayed" not in fields.lower()
        # Who is told of an execution has had one, and nobody is executed who isn't told.
        self.assertEqual(self.origin.count() - before, answered)
        self.told(self.post(at=server))
        self.assertNotIn("panicked", server.said())
        self.assertIsNone(server.process.poll())

    def request(self, draw, number):
        """A good request, with some of its bytes, lines or lengths changed."""
        key = self.bytes(draw) if draw.random() < 0.4 else b'"%s-%d"' % (self.key.encode(), number % 50)
        body = b"payload"
        lines = [
            b"%s %s HTTP/1.1" % (draw.choice([b"POST", b"PATCH", b"PUT", b"GET"]), self.path.encode()),
            b"Host: localhost",
            b"Idempotency-Key: " + key,
            b"Content-Length: %d" % len(body),
            b"X-Other: " + (self.bytes(draw) if draw.random() < 0.2 else b"1"),
        ]
        for _ in range(draw.choice([0, 0, 1, 1, 2, 3])):
            draw.choice([self.garble, self.double, self.drop, self.misstate])(draw, lines)
        if draw.random() < 0.1:
            lines[1:1] = [b"X-Long: " + b"x" * draw.choice([100, 9000, 60000, 600000])]
        end = draw.choice([b"\r\n"] * 12 + [b"\n", b"\r"])
        request = end.join(lines) + 2 * end + body
        return request[: draw.randrange(len(request))] if draw.random() < 0.1 else request

    @staticmethod
    def bytes(draw):
        """What a careless client may send for a key."""
        of = draw.choice([b'"\\ab,; ', bytes(range(32, 127)), bytes(range(256)), '"äé☃"'.encode()])
        count = draw.choice([0, 1, 2, 8, 254, 255, 256, 3000])
        text = bytes(draw.choice(of) for _ in range(count))
        return b'"%s"' % text if draw.random() < 0.5 else text

    @staticmethod
    def garble(draw, lines):
        number = draw.randrange(1, len(lines))
        line = bytearray(lines[number])
        for _ in range(draw.randrange(1, 4)):
            where = draw.randrange(len(line) + 1)
            line[where : where + draw.randrange(2)] = draw.randbytes(draw.randrange(2))
        lines[number] = bytes(line)

    @staticmethod
    def double(draw, lines):
        lines.insert(draw.randrange(1, len(lines)), draw.choice(lines[1:]))

    @staticmethod
    def drop(draw, lines):
        if len(lines) > 2:
            del lines[draw.randrange(1, len(lines))]

    @staticmethod
    def misstate(draw, lines):
        lines.insert(
            draw.randrange(1, len(lines)),
            draw.choice(
                [
                    b"Transfer-Encoding: chunked",
                    b"Transfer-Encoding: gzip, chunked",
                    b"Transfer-Encoding: chunked, chunked",
                    b"Content-Length: 3",
                    b"Content-Length: -1",
                    b"Content-Length: 7, 7",
                    b"Content-Length: 99999999999999999999999",
                    b"Content-Length: +7",
                    b"Connection: close",
                    b"Expect: 100-continue",
                    b"Expect: something else",
                    b"Upgrade: h2c",
                    b" folded",
                    b"no colon",
                    b": no name",
                    b"Na me: value",
                ]
            ),
        )
