"""The package: begin, Lead, Response, errors, stats."""

import gc
import os
import threading
import unittest
from pathlib import Path
from unittest import mock

from support import Thread, onceflight, until, until_waiting
from onceflight import BYPASS, Lead, Response, Table, _edges, _native
from onceflight import table as table_module


class Begins(unittest.TestCase):
    def test_lead_share_replay(self):
        with Table(completed_ttl=60) as table:
            lead = table.begin("k")
            self.assertIsInstance(lead, Lead)
            follower = Thread(table.begin, b"k")  # str keys are UTF-8
            until_waiting(table, 1)
            lead.complete(b"body", status=200)
            self.assertTrue(lead.settled)
            shared, replayed = follower.result(), table.begin("k")
            for got, role in ((shared, False), (replayed, True)):
                self.assertIsInstance(got, Response)
                self.assertEqual((got.status, got.data, len(got), got.replayed), (200, b"body", 4, role))
                self.assertEqual(bytes(got.view), b"body")
            stats = table.stats()
            self.assertEqual((stats.leads, stats.shared, stats.replayed, stats.timeouts), (1, 1, 1, 0))

    def test_a_view_outlives_everything_else(self):
        table = Table(completed_ttl=60)
        table.begin("k").complete(b"x" * 1000)
        view = table.begin("k").view
        table.close()
        del table
        gc.collect()
        self.assertEqual(bytes(view), b"x" * 1000)
        self.assertTrue(view.readonly)

    def test_responses_are_freed(self):
        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        if not Path("/proc/self/statm").exists():
            self.skipTest("no /proc")
        body = b"x" * (1 << 20)
        with Table(completed_ttl=600) as table:
            before = resident()
            for _ in range(200):
                table.begin("k").complete(body)
                got = table.begin("k")
                self.assertEqual(len(got.view), len(got.data))
                table.forget("k")
            self.assertLess(resident() - before, 100 << 20)  # of 200 MiB

    def test_empty_response(self):
        with Table(completed_ttl=60) as table:
            table.begin("").complete()
            got = table.begin(b"")
            self.assertEqual((got.data, bytes(got.view), bool(got)), (b"", b"", True))

    def test_keys_and_bodies_of_any_bytes_like(self):
        with Table(completed_ttl=60) as table:
            table.begin(bytearray(b"\xff\0")).complete(memoryview(b"\0\xfe"))
            self.assertEqual(table.begin(memoryview(b"\xff\0")).data, b"\0\xfe")

    def test_decline(self):
        with Table() as table:
            lead = table.begin("k")
            follower = Thread(table.begin, "k")
            until_waiting(table, 1)
            lead.decline()
            self.assertIs(follower.result(), BYPASS)

    def test_complete_for(self):
        with Table(completed_ttl=60) as table:
            table.begin("k").complete_for(0, b"x")
            self.assertEqual(table.stats().completed, 0)
            table.begin("k", ttl=0).complete(b"x")
            self.assertEqual(table.stats().completed, 0)

    def test_an_exception_abandons(self):
        with Table() as table:
            with self.assertRaises(KeyError), table.begin("k") as lead:
                follower = Thread(table.begin, "k")
                until_waiting(table, 1)
                raise KeyError
            self.assertTrue(lead.settled)
            successor = follower.result()
            self.assertEqual(successor.details().attempt, 2)
            successor.cancel()

    def test_a_dropped_lead_abandons(self):
        with Table() as table:
            table.begin("k")
            gc.collect()
            self.assertEqual(table.begin("k", timeout=0).details().attempt, 2)

    def test_checkpoint_and_fence(self):
        with Table() as table:
            first = table.begin("k")
            fence = first.details().fence
            first.renew(60)
            first.checkpoint(b"half\0way")
            first.abandon()
            second = table.begin("k")
            details = second.details()
            self.assertEqual((details.attempt, details.checkpoint), (2, b"half\0way"))
            self.assertGreater(details.fence, fence)

    def test_recover(self):
        with Table(on_lease_expired="hold") as table:
            table.begin("k").abandon()
            with self.assertRaises(onceflight.Unknown):
                table.begin("k")
            self.assertIsInstance(table.begin("k", recover=True), Lead)


class Errors(unittest.TestCase):
    def test_each_kind(self):
        with Table(max_key_len=10, max_response_len=100, max_in_flight=2) as table:
            lead = table.begin("k", fingerprint=b"a")
            for error, call in {
                onceflight.Timeout: lambda: table.begin("k", fingerprint=b"a", timeout=0.01),
                onceflight.Mismatch: lambda: table.begin("k", fingerprint=b"b"),
                onceflight.TooLarge: lambda: table.begin("k" * 11),
            }.items():
                with self.assertRaises(error) as caught:
                    call()
                self.assertIsInstance(caught.exception, onceflight.OnceflightError)
                self.assertLess(caught.exception.code, 0)
                self.assertTrue(str(caught.exception))
            with self.assertRaises(onceflight.TooLarge):
                lead.complete(b"x" * 101)
            self.assertFalse(lead.settled)
            other = table.begin("other")
            with self.assertRaises(onceflight.Overloaded):
                table.begin("third")
            lead.complete(b"")
            with self.assertRaises(onceflight.Stale):
                lead.complete(b"")
            other.cancel()
            self.assertEqual(table.stats().timeouts, 1)
        with self.assertRaises(onceflight.Closed):
            table.begin("k")

    def test_timeout_is_a_timeout_error(self):
        with Table() as table:
            lead = table.begin("k")
            for timeout in (0, 0.01):
                with self.assertRaises(TimeoutError):
                    table.begin("k", timeout=timeout)
            self.assertEqual(table.stats().timeouts, 2)
            lead.cancel()

    def test_fail_all(self):
        with Table(on_cancel="fail_all") as table:
            lead = table.begin("k")
            follower = Thread(table.begin, "k")
            until_waiting(table, 1)
            lead.cancel()
            with self.assertRaises(onceflight.Cancelled):
                follower.result()

    def test_a_taken_over_lead_is_stale(self):
        with Table(lease=0.01) as table:
            first = table.begin("k")
            second = table.begin("k")
            with self.assertRaises(onceflight.Stale):
                first.complete(b"late")
            second.complete(b"")

    def test_arguments(self):
        with Table() as table:
            with self.assertRaises(ValueError):
                table.begin("k", timeout=-1)
            with self.assertRaises(ValueError):
                table.begin("k", timeout=float("nan"))
            table.begin("k", timeout=float("inf")).cancel()
        with self.assertRaises(ValueError):
            Table(on_cancel="whatever")
        with self.assertRaises((onceflight.StoreFailed, onceflight.Unsupported)):  # as the library was built
            Table("redis://localhost:1")

    def test_close_wakes_and_leads_still_settle(self):
        table = Table()
        lead = table.begin("k")
        followers = [Thread(table.begin, "k") for _ in range(3)]
        until_waiting(table, 3)
        table.close()
        for follower in followers:
            with self.assertRaises(onceflight.Closed):
                follower.result()
        lead.complete(b"")
        table.close()  # twice is fine


class Threads(unittest.TestCase):
    def test_the_gil_is_released_while_a_follower_waits(self):
        with Table() as table:
            lead = table.begin("k")
            follower = Thread(table.begin, "k")
            until_waiting(table, 1)  # this thread goes on only if the other has given up the GIL
            for _ in range(1000):
                pass
            lead.complete(b"")
            self.assertEqual(follower.result().data, b"")

    def test_a_crowd_takes_turns(self):
        """Each thread that has waited tells the library that it has the GIL, whereupon the next is woken."""
        said, done, begin = [], table_module.raw_turn_done, table_module.lib.begin_request

        def asked(pointer, request, *outs):
            self.assertTrue(request._obj.flags & _native.IN_TURN)
            return begin(pointer, request, *outs)

        def tell():
            said.append(threading.get_ident())
            done()

        lib = mock.patch.object(table_module.lib, "begin_request", asked)
        turn_done = mock.patch.object(table_module, "raw_turn_done", tell)
        with lib, turn_done, Table() as table:
            lead = table.begin("k")
            crowd = [Thread(table.begin, "k") for _ in range(64)]
            until_waiting(table, 64)
            lead.complete(b"shared")
            self.assertEqual({thread.result().data for thread in crowd}, {b"shared"})
            self.assertEqual(set(said), {thread.ident for thread in crowd})

    def test_leads_may_be_settled_by_another_thread(self):
        with Table() as table:
            lead = table.begin("k")
            Thread(lead.complete, b"").result()
            self.assertTrue(lead.settled)

    def test_a_storm_adds_up(self):
        with Table() as table:
            begun = threading.Barrier(8)
            counted = [0] * 8

            def worker(number):
                begun.wait()
                for turn in range(200):
                    got = table.begin(str(turn % 5))
                    counted[number] += 1
                    if isinstance(got, Lead):
                        [got.complete, got.cancel, got.abandon, got.decline][turn % 4]()

            for thread in [Thread(worker, number) for number in range(8)]:
                thread.result()
            until_waiting(table, 0)
            stats = table.stats()
            self.assertEqual(sum(counted), 1600)
            self.assertEqual(stats.leads + stats.shared + stats.replayed + stats.bypassed, 1600)
            self.assertEqual((stats.timeouts, stats.stale, stats.waiting), (0, 0, 0))


class SameThread(unittest.TestCase):
    def test_a_wait_for_oneself_would_deadlock(self):
        def twice():
            with table.begin("k\0a", same_thread=True) as lead:
                for timeout in (None, 600):
                    with self.assertRaises(onceflight.WouldDeadlock):
                        table.begin("k\0a", same_thread=True, timeout=timeout)
                with self.assertRaises(onceflight.Timeout):
                    table.begin("k\0a", same_thread=True, timeout=0)
                with self.assertRaises(onceflight.TooLarge):
                    lead.complete(b"x" * 101)  # refused, so it still leads
                with self.assertRaises(onceflight.WouldDeadlock):
                    table.begin("k\0a", same_thread=True)
                table.begin("k\0b", same_thread=True).cancel()

        with Table(max_response_len=100) as table:
            twice()
            Thread(twice).result()
            self.assertEqual(_edges._leaders, {})

    def test_a_lead_settled_elsewhere_leaves_nothing(self):
        with Table() as table:
            Thread(table.begin("k", same_thread=True).cancel).result()
            self.assertEqual(_edges._leaders, {})

    def test_who_was_told_but_is_not_back_yet_closes_no_ring(self):
        ours, theirs = (0, b"ours"), (0, b"theirs")
        for comes_back in (True, False):
            me, told, gone = threading.get_ident(), threading.Event(), threading.Event()

            def other():
                they = threading.get_ident()
                _edges.lead(theirs, 1, they)
                with _edges.waiting(ours, True):
                    told.set()  # and now it is slow to take the GIL
                    if comes_back:
                        until(lambda: me in _edges._waits, "the ring is seen")
                    else:
                        gone.wait()
                _edges.settle(they, 1)

            _edges.lead(ours, 2, me)
            follower = Thread(other)
            told.wait()
            _edges.settle(me, 2)
            _edges.lead(ours, 3, me)
            if comes_back:
                with _edges.waiting(theirs, True):
                    pass
            else:  # another such ring, and of this one nobody was told
                with mock.patch.object(_edges, "DOUBT", 0.01):
                    with self.assertRaises(onceflight.WouldDeadlock), _edges.waiting(theirs, True):
                        pass
            gone.set()
            follower.result()
            _edges.settle(me, 3)
            self.assertEqual((_edges._leaders, _edges._waits), ({}, {}))

    def test_of_a_ring_one_is_refused(self):
        ours, theirs = (0, b"ours"), (0, b"theirs")
        me, asleep, gone = threading.get_ident(), threading.Event(), threading.Event()
        shown = []  # whether others see this thread wait, whenever they may look

        class Gone(threading.Condition):
            def __exit__(self, *raised):
                shown.append(me in _edges._waits)
                return super().__exit__(*raised)

        def other():
            they = threading.get_ident()
            _edges.lead(theirs, 1, they)
            with _edges.waiting(ours, True):
                asleep.set()
                gone.wait()
            _edges.settle(they, 1)

        _edges.lead(ours, 2, me)
        follower = Thread(other)
        asleep.wait()
        with mock.patch.object(_edges, "_gone", Gone()):
            with self.assertRaises(onceflight.WouldDeadlock), _edges.waiting(theirs, True):
                pass
        gone.set()
        follower.result()
        _edges.settle(me, 2)
        self.assertEqual(set(shown), {False})


class Hashes(unittest.TestCase):
    def test_fingerprint(self):
        self.assertEqual(onceflight.fingerprint("a", b"b"), onceflight.fingerprint("a", "b"))
        self.assertNotEqual(onceflight.fingerprint("ab", "c"), onceflight.fingerprint("a", "bc"))
        with self.assertRaises(ValueError):
            onceflight.fingerprint("a", secret=b"short")

    def test_request_key(self):
        one = onceflight.request_key("GET", "/", [("Accept", "a"), ("Cookie", b"b")])
        self.assertEqual(one, onceflight.request_key("GET", "/", [("cookie", "b"), ("accept", "a")]))
        self.assertNotEqual(one, onceflight.request_key("GET", "/", [("Accept", "a")]))
        self.assertEqual(len(one), 16)


if __name__ == "__main__":
    unittest.main()
