"""The package: Sessions."""

import gc
import math
import os
import sqlite3
import threading
import unittest
from pathlib import Path

from support import Thread, in_child, onceflight
from onceflight import SessionResponse, Sessions


def replies(status, data):
    return lambda: (status, data)


class Requests(unittest.TestCase):
    def test_a_request_is_applied_once(self):
        sessions, calls = Sessions(), []

        def deposit():
            calls.append(1)
            return 7, b"10"

        client = sessions.register("client", "nonce", now_ms=1)
        self.assertEqual(sessions.register("client", "nonce", now_ms=2), client)
        self.assertIsNone(sessions.peek("client", client, 1))
        first = sessions.apply("client", client, 1, deposit, now_ms=3)
        again = sessions.apply("client", client, 1, deposit, now_ms=4)
        self.assertEqual((first, again), (SessionResponse(7, b"10", False), SessionResponse(7, b"10", True)))
        self.assertEqual(sessions.peek("client", client, 1), again)
        self.assertEqual(len(calls), 1)

    def test_fn_gives_bytes_or_a_status_and_bytes(self):
        sessions = Sessions()
        for seq, (given, status, data) in enumerate(
            [
                (b"x", 0, b"x"),
                (bytearray(b"\0"), 0, b"\0"),
                (memoryview(b""), 0, b""),
                ((-(2**31), b"x"), -(2**31), b"x"),
            ],
            1,
        ):
            for replayed in (False, True):
                told = sessions.apply("c", 0, seq, lambda given=given: given, now_ms=0)
                self.assertEqual(told, (status, data, replayed))

    def test_what_cannot_be_replied_leaves_the_entry_open(self):
        for wrong, error in {
            7: TypeError,
            "text": TypeError,
            None: TypeError,
            (2**31, b""): ValueError,
        }.items():
            sessions = Sessions()
            with self.subTest(wrong), self.assertRaises(error):
                sessions.apply("c", 0, 1, lambda wrong=wrong: wrong, now_ms=0)
            with self.assertRaises(onceflight.InvalidArgument):
                sessions.snapshot()

    def test_an_exception_passes_and_may_be_recorded(self):
        sessions = Sessions()
        with self.assertRaises(ZeroDivisionError):
            sessions.apply("c", 0, 1, lambda: 1 // 0, now_ms=0)
        with self.assertRaises(onceflight.InvalidArgument):
            sessions.apply("c", 0, 2, replies(0, b""), now_ms=0)
        sessions.record("c", 0, 1, b"division", status=-1)
        self.assertEqual(sessions.apply("c", 0, 1, replies(0, b""), now_ms=0), (-1, b"division", True))

    def test_begin_and_record(self):
        sessions = Sessions()
        self.assertIsNone(sessions.begin(b"c", 0, 1, now_ms=0))
        sessions.record(b"c", 0, 1)
        self.assertEqual(sessions.begin(b"c", 0, 1, now_ms=0), (0, b"", True))

    def test_each_kind_of_error(self):
        digest, other = onceflight.fingerprint("a"), onceflight.fingerprint("b")
        sessions = Sessions(window=2, max_response_len=3)
        first = sessions.register("c", "one", now_ms=0)
        client = sessions.register("c", "two", now_ms=0)
        nothing = replies(0, b"")
        sessions.apply("c", client, 1, nothing, digest=digest, now_ms=0)
        sessions.apply("c", client, 2, nothing, ack=2, now_ms=0)
        for error, call in {
            onceflight.Expired: lambda: sessions.begin("other", 9, 1, now_ms=0),
            onceflight.Fenced: lambda: sessions.begin("c", first, 1, now_ms=0),
            onceflight.SeqStale: lambda: sessions.begin("c", client, 1, now_ms=0),
            onceflight.WindowFull: lambda: sessions.begin("c", client, 4, now_ms=0),
            onceflight.Conflict: lambda: sessions.begin("c", client, 2, digest=other, now_ms=0),
            onceflight.Malformed: lambda: sessions.begin("c", client, 3, ack=4, now_ms=0),
            onceflight.TooLarge: lambda: sessions.apply("c", client, 3, replies(0, b"1234"), now_ms=0),
            onceflight.InvalidArgument: lambda: sessions.record("c", client, 3),
            onceflight.FormatError: lambda: Sessions.restore(b"garbage"),
        }.items():
            with self.subTest(error.__name__), self.assertRaises(error) as caught:
                call()
            self.assertIs(type(caught.exception), error)
            self.assertIsInstance(caught.exception, onceflight.OnceflightError)
            self.assertTrue(str(caught.exception))
        with self.assertRaises(onceflight.TooLarge):
            sessions.peek("c", client, 3)
        with self.assertRaises(onceflight.Expired):
            sessions.keep_alive("other", 9, now_ms=0)

    def test_numbers_that_ctypes_would_cut_short(self):
        sessions = Sessions()
        for call in (
            lambda: sessions.begin("c", 0, 2**64 + 1, now_ms=0),
            lambda: sessions.begin("c", -1, 1, now_ms=0),
            lambda: sessions.begin("c", 0, 1, ack=-1, now_ms=0),
            lambda: sessions.begin("c", 0, 1, now_ms=1.5),
            lambda: sessions.begin("c", 0, 1, digest=b"short", now_ms=0),
            lambda: sessions.register("c", "n", now_ms=2**64),
            lambda: sessions.expire(-1),
            lambda: Sessions(window=-1),
            lambda: Sessions(window=2**32 + 1),
            lambda: Sessions(timeout_ms=0.5),
        ):
            with self.assertRaises(ValueError):
                call()
        self.assertEqual(len(sessions), 0)


class Life(unittest.TestCase):
    def test_sessions_live_by_the_logs_time(self):
        sessions = Sessions(timeout_ms=1000, max_sessions=2)
        a = sessions.register("a", "n", now_ms=0)
        sessions.register("b", "n", now_ms=0)
        sessions.keep_alive("a", a, now_ms=999)
        self.assertEqual(sessions.expire(1000), 1)
        self.assertEqual(sessions.stats(), (1, 0, 1000))
        sessions.unregister("a")
        with self.assertRaises(onceflight.Expired):
            sessions.unregister("a")
        for client in "abc":
            sessions.register(client, "n", now_ms=0)
        self.assertEqual(len(sessions), 2)

    def test_without_a_timeout_they_stay(self):
        sessions = Sessions(timeout_ms=math.inf)
        sessions.register("a", "n", now_ms=0)
        self.assertEqual(sessions.expire(2**64 - 2), 0)

    def test_bytes_are_bounded(self):
        sessions = Sessions(max_session_bytes=4, max_bytes=6)
        for client in "abc":
            sessions.apply(client, 0, 1, replies(0, b"xx"), now_ms=0)
        self.assertEqual(sessions.stats()[:2], (3, 6))
        sessions.apply("d", 0, 1, replies(0, b"x"), now_ms=0)
        self.assertEqual(sessions.stats()[:2], (3, 5))
        with self.assertRaises(onceflight.Expired):
            sessions.peek("a", 0, 2)

    def test_snapshot_and_restore(self):
        first, second = Sessions(window=3), Sessions(window=3)
        for table in (first, second):
            table.register("a", "n", now_ms=5)
            table.apply("b", 0, 1, replies(1, b"kept"), now_ms=6)
        snapshot = first.snapshot()
        self.assertIsInstance(snapshot, bytes)
        self.assertEqual(snapshot, second.snapshot())
        del first
        restored = Sessions.restore(memoryview(snapshot))
        self.assertEqual(restored.apply("b", 0, 1, replies(0, b""), now_ms=7), (1, b"kept", True))
        with self.assertRaises(onceflight.WindowFull):
            restored.begin("a", 1, 4, now_ms=8)
        self.assertEqual(repr(restored), "<Sessions 2>")
        self.assertNotEqual(snapshot, restored.snapshot())

    def test_rows_live_in_a_database_of_ones_own(self):
        database = sqlite3.connect(":memory:")
        database.execute("CREATE TABLE sessions (client BLOB UNIQUE, row BLOB NOT NULL)")
        database.execute("CREATE TABLE account (balance INTEGER)")
        database.execute("INSERT INTO account VALUES (0)")

        def save(sessions):
            for client, row in sessions.save():
                database.execute("DELETE FROM sessions WHERE client IS ?", (client,))
                if row is not None:
                    database.execute("INSERT INTO sessions VALUES (?, ?)", (client, row))

        def load():
            (table,) = database.execute("SELECT row FROM sessions WHERE client IS NULL").fetchone()
            rows = database.execute("SELECT row FROM sessions WHERE client IS NOT NULL").fetchall()
            return Sessions.load(table, [row for (row,) in rows])

        def deposit():
            database.execute("UPDATE account SET balance = balance + 10")
            return b"%d" % database.execute("SELECT balance FROM account").fetchone()

        sessions = Sessions()
        with database:
            for client in (b"", b"a\0", b"b"):
                sessions.apply(client, 0, 1, deposit, now_ms=5)
            save(sessions)
        with database:
            sessions.unregister("b")
            save(sessions)
        self.assertEqual(load().snapshot(), sessions.snapshot())
        with self.assertRaises(KeyError), database:
            sessions.apply(b"", 0, 2, deposit, now_ms=6)
            save(sessions)
            raise KeyError
        sessions = load()  # as the database has it
        for replayed in (False, True):
            self.assertEqual(sessions.apply(b"", 0, 2, deposit, now_ms=6), (0, b"40", replayed))
        with self.assertRaises(onceflight.FormatError):
            Sessions.load(b"", [])
        database.close()

    def test_memory_is_given_back(self):
        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        if not Path("/proc/self/statm").exists():
            self.skipTest("no /proc")
        before = resident()
        for _ in range(200):
            sessions = Sessions()
            sessions.apply("c", 0, 1, replies(0, b"x" * (1 << 20)), now_ms=0)
            self.assertEqual(len(sessions.begin("c", 0, 1, now_ms=0).data), 1 << 20)
            self.assertGreater(len(sessions.snapshot()), 1 << 20)
        gc.collect()
        self.assertLess(resident() - before, 100 << 20)  # of 400 MiB

    def test_a_forked_child_is_told(self):
        sessions = Sessions()
        sessions.register("a", "n", now_ms=0)
        self.assertTrue(in_child(lambda: sessions.expire(0)).startswith("Forked: "))
        self.assertEqual(in_child(lambda: Sessions().expire(0)), "0")

    def test_threads_may_share_it(self):
        sessions, over = Sessions(), threading.Event()
        sessions.apply("a", 0, 1, replies(0, b"first"), now_ms=0)
        looking = threading.Barrier(4)

        def look():
            looking.wait()
            while not over.is_set():
                self.assertEqual(sessions.peek("a", 0, 1).data, b"first")
                try:
                    Sessions.restore(sessions.snapshot())
                except onceflight.InvalidArgument:
                    pass  # an entry is open

        readers = [Thread(look) for _ in range(3)]
        looking.wait()
        try:
            for seq in range(1, 2001):
                sessions.apply("b", 0, seq, replies(0, b"x"), now_ms=seq)
        finally:
            over.set()
        for reader in readers:
            reader.result()


if __name__ == "__main__":
    unittest.main()
