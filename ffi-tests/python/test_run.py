"""run and dedupe over threads: one execution, one object, and no object held too long."""

import gc
import threading
import traceback
import unittest
import weakref

from support import PATIENCE, Thread, onceflight, until, until_waiting
from onceflight import Lead, Table, dedupe
from onceflight._objects import Outcome


class Thing:
    """An object whose end can be watched."""


class Gate:
    """A piece of work that goes on when it is told to."""

    def __init__(self, result=None):
        self.calls = 0
        self.started, self.open = threading.Event(), threading.Event()
        self.result = result

    def __call__(self):
        self.calls += 1
        self.started.set()
        assert self.open.wait(PATIENCE)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def flight(table, result, followers, **options):
    """Runs one flight of a leader and some followers to its end; gives the gate and the threads."""
    gate = Gate(result)
    threads = [Thread(table.run, "k", gate, **options)]
    assert gate.started.wait(PATIENCE)
    threads += [Thread(table.run, "k", gate, **options) for _ in range(followers)]
    until_waiting(table, followers)
    gate.open.set()
    return gate, threads


class Runs(unittest.TestCase):
    def test_all_get_the_one_object(self):
        with Table() as table:
            thing = Thing()
            gate, threads = flight(table, thing, 8)
            for thread in threads:
                self.assertIs(thread.result(), thing)
            self.assertEqual(gate.calls, 1)
            self.assertEqual(table.stats()[:5], (1, 8, 0, 0, 0))

    def test_an_exception_reaches_everybody_and_is_not_retained(self):
        with Table(completed_ttl=60) as table:
            error = KeyError("no")
            gate, threads = flight(table, error, 4)
            for thread in threads:
                with self.assertRaises(KeyError) as caught:
                    thread.result()
                self.assertIs(caught.exception, error)
            self.assertEqual((gate.calls, table.stats().completed), (1, 0))
            self.assertEqual(table.run("k", lambda: "fine"), "fine")

    def test_what_is_no_exception_but_an_exit_passes_the_lead_on(self):
        with Table() as table:
            gate = Gate(SystemExit())
            leader = Thread(table.run, "k", gate)
            self.assertTrue(gate.started.wait(PATIENCE))
            follower = Thread(table.run, "k", lambda: "mine")
            until_waiting(table, 1)
            gate.open.set()
            with self.assertRaises(SystemExit):
                leader.result()
            self.assertEqual(follower.result(), "mine")

    def test_replay(self):
        with Table(completed_ttl=60) as table:
            thing = Thing()
            self.assertIs(table.run("k", lambda: thing), thing)
            self.assertIs(table.run("k", self.fail), thing)
            table.forget("k")
            self.assertEqual(table.run("k", lambda: 2), 2)

    def test_timeout(self):
        with Table() as table:
            gate = Gate(1)
            leader = Thread(table.run, "k", gate)
            self.assertTrue(gate.started.wait(PATIENCE))
            for timeout in (0, 0.01):
                with self.assertRaises(onceflight.Timeout):
                    Thread(table.run, "k", self.fail, timeout=timeout).result()
            gate.open.set()
            self.assertEqual(leader.result(), 1)
            self.assertEqual(table.stats().timeouts, 2)

    def test_beside_begin(self):
        with Table() as table:
            lead = table.begin("k")
            threads = [Thread(table.run, "k", self.fail) for _ in range(2)]
            until_waiting(table, 2)
            lead.complete(b"bytes", status=7)
            for thread in threads:
                got = thread.result()
                self.assertEqual((got.data, got.status), (b"bytes", 7))
            lead = table.begin("k")
            alone = Thread(table.run, "k", lambda: "alone")
            until_waiting(table, 1)
            lead.decline()
            self.assertEqual(alone.result(), "alone")

    def test_reentry_would_deadlock(self):
        with Table() as table:
            for call in (Thread, lambda function: function()):  # in any thread, the main one too
                with self.assertRaises(onceflight.WouldDeadlock):
                    got = call(lambda: table.run("k", lambda: table.run("k", self.fail)))
                    if isinstance(got, Thread):
                        got.result()
            self.assertEqual(table.run("k", lambda: table.run("other", lambda: 1)), 1)

    def test_a_ring_of_threads_would_deadlock(self):
        for main_waits_first in (True, False):
            with Table() as table:
                led = threading.Event()

                def theirs():
                    led.set()
                    if main_waits_first:
                        until_waiting(table, 1)
                    return table.run("mine", lambda: "?")

                def mine():
                    other.append(Thread(table.run, "theirs", theirs))
                    self.assertTrue(led.wait(PATIENCE))
                    if not main_waits_first:
                        until_waiting(table, 1)
                    return table.run("theirs", lambda: "?")

                other = []
                with self.assertRaises(onceflight.WouldDeadlock):
                    table.run("mine", mine)  # of the main thread, or of the other and then shared with it
                with self.assertRaises(onceflight.WouldDeadlock):
                    other[0].result()

    def test_an_overtaken_run_is_stale_and_keeps_its_value(self):
        with Table(lease=0.01, completed_ttl=60) as table:
            gate = Gate("late")
            first = Thread(table.run, "k", gate)
            self.assertTrue(gate.started.wait(PATIENCE))
            self.assertEqual(table.run("k", lambda: "second"), "second")
            gate.open.set()
            with self.assertRaises(onceflight.Stale) as caught:
                first.result()
            self.assertEqual(caught.exception.value, "late")
            self.assertEqual(table.run("k", self.fail), "second")  # and does its successor no harm


class Lifetimes(unittest.TestCase):
    """What run shares lives as long as the library's record, or as somebody who may yet be handed it."""

    def gone(self, reference):
        gc.collect()
        return reference() is None

    def test_without_a_window_nothing_stays(self):
        with Table() as table:
            for _ in range(3):
                thing = Thing()
                watch = weakref.ref(thing)
                gate, threads = flight(table, thing, 4)
                for thread in threads:
                    thread.result()
                del thing, gate, threads, thread
                self.assertTrue(self.gone(watch))
            self.assertEqual(len(table._objects._links), 0)

    def test_exceptions_go_too_without_a_collection(self):
        with Table() as table:
            gc.collect()
            gc.disable()
            try:
                error = ValueError()
                error.thing = Thing()
                watch = weakref.ref(error.thing)

                def work():
                    raise error

                try:
                    table.run("k", work)
                except ValueError:
                    pass
                del error, work
                self.assertIsNone(watch())
            finally:
                gc.enable()

    def test_a_follower_s_exception_goes_without_a_collection(self):
        with Table() as table:
            started, watches = threading.Event(), []

            def failure():
                error = KeyError()
                error.thing = Thing()
                watches.append(weakref.ref(error.thing))
                return error

            def work():
                started.set()
                until_waiting(table, 1)
                raise failure()

            def lead():
                try:
                    table.run("k", work)
                except KeyError:
                    pass

            gc.collect()
            gc.disable()
            try:
                leader = Thread(lead)
                self.assertTrue(started.wait(PATIENCE))
                try:  # not assertRaises, which clears the frames that would hold a cycle
                    table.run("k", self.fail)
                except KeyError:
                    pass
                leader.result()
                self.assertIsNone(watches[0]())
            finally:
                gc.enable()

    def test_raising_over_and_over_lengthens_no_trace(self):
        def depth():
            try:
                outcome.take()
            except KeyError as error:
                return len(traceback.extract_tb(error.__traceback__))

        outcome = Outcome(1, None, KeyError())
        self.assertEqual(depth(), depth())

    def test_a_window_holds_and_lets_go_without_a_look_up(self):
        with Table(completed_ttl=0.05) as table:
            thing = Thing()
            watch = weakref.ref(thing)
            table.run("k", lambda value=thing: value)
            del thing
            until(lambda: self.gone(watch), "the release of an expired object")
        with Table() as table:
            watch = weakref.ref(table.run("k", Thing, ttl=600))
            self.assertFalse(self.gone(watch))
            self.assertIs(table.run("k", self.fail), watch())

    def test_a_short_window_is_not_held_up_by_a_long_one(self):
        with Table() as table:
            long = weakref.ref(table.run("long", Thing, ttl=600))
            short = weakref.ref(table.run("short", Thing, ttl=0.05))
            until(lambda: self.gone(short), "the release of the short one")
            self.assertFalse(self.gone(long))

    def test_forget_close_and_drop_let_go(self):
        with Table(completed_ttl=600) as table:
            watch = weakref.ref(table.run("k", Thing))
            table.forget("k")
            self.assertTrue(self.gone(watch))
            watch = weakref.ref(table.run("k", Thing))
        self.assertTrue(self.gone(watch))
        table = Table(completed_ttl=600)
        watch = weakref.ref(table.run("k", Thing))
        whole = weakref.ref(table)
        del table
        self.assertTrue(self.gone(whole))
        self.assertTrue(self.gone(watch))

    def test_a_detached_flight_is_not_kept(self):
        with Table(completed_ttl=600) as table:
            gate = Gate(Thing())
            old = Thread(table.run, "k", gate)
            self.assertTrue(gate.started.wait(PATIENCE))
            follower = Thread(table.run, "k", self.fail)
            until_waiting(table, 1)
            table.forget("k")
            new = table.run("k", Thing)
            gate.open.set()
            self.assertIs(follower.result(), old.result())
            self.assertIs(table.run("k", self.fail), new)
            watch = weakref.ref(gate.result)
            del gate, old, follower
            self.assertTrue(self.gone(watch))

    def test_a_detached_flight_without_a_successor_is_not_kept(self):
        with Table(completed_ttl=600) as table:
            def work():
                table.forget("k")
                return Thing()

            watch = weakref.ref(table.run("k", work))
            self.assertTrue(self.gone(watch))
            self.assertEqual(table.stats().completed, 0)

    def test_a_new_leader_replaces(self):
        with Table(completed_ttl=600, max_completed=1) as table:
            first = weakref.ref(table.run("a", Thing))
            table.run("b", Thing)  # evicts a, here and there
            self.assertTrue(self.gone(first))
            self.assertEqual(len(table._objects), 1)

    def test_the_number_kept_is_bounded(self):
        with Table(completed_ttl=600, max_completed=10) as table:
            for number in range(1000):
                table.run(str(number), Thing)
                self.assertLessEqual(len(table._objects), 11)
            self.assertLessEqual(len(table._objects._due), 200)

    def test_forgetting_over_and_over_leaves_no_trail(self):
        with Table(completed_ttl=600) as table:
            for number in range(1000):
                table.run(str(number), Thing)
                table.forget(str(number))
            self.assertEqual(len(table._objects), 0)
            self.assertLessEqual(len(table._objects._due), 200)

    def test_an_id_without_its_object_begins_again(self):
        with Table(completed_ttl=600) as table:
            table.run("k", Thing)
            table._objects.clear()  # as if evicted on this side only
            self.assertEqual(table.run("k", lambda: "again"), "again")
            self.assertEqual(table.run("k", self.fail), "again")

    def test_finalizers_may_use_the_table(self):
        class Nosy:
            def __del__(self):
                table.run("k", lambda: "from a finalizer")
                table.forget("other")

        with Table(completed_ttl=600) as table:
            for _ in range(20):
                table.run("k", Nosy)
                table.forget("k")
            gc.collect()
            self.assertEqual(table.run("j", lambda: 1), 1)

    def test_a_collection_may_come_at_any_time(self):
        class Nosy:
            def __init__(self):
                self.cycle = self

            def __del__(self):
                try:
                    table.run("k", lambda: "from a finalizer", ttl=600)
                    table.forget("k")
                except onceflight.WouldDeadlock:
                    pass  # the collection came inside the flight

        def work():
            for allocations in range(1, 100):
                gc.collect()
                gc.set_threshold(allocations)  # so that each place inside has its turn
                Nosy()
                table.run("k", lambda: 1, ttl=600)
                table.forget("k")

        with Table() as table:
            thresholds = gc.get_threshold()
            try:
                Thread(work).result()
            finally:
                gc.set_threshold(*thresholds)
            gc.collect()
            self.assertEqual((len(table._objects), len(table._objects._links)), (0, 0))

    def test_a_storm_of_runs_leaves_nothing(self):
        for ttl in (None, 0.001):
            with Table() as table:
                def worker(number):
                    for turn in range(300):
                        key = str(turn % 3)
                        thing = table.run(key, lambda: (key, Thing()), ttl=ttl)
                        self.assertEqual(thing[0], key)
                        if turn % 50 == number:
                            table.forget(key)

                for thread in [Thread(worker, number) for number in range(8)]:
                    thread.result()
                until(lambda: len(table._objects) == 0 and len(table._objects._links) == 0, "empty registry")
                stats = table.stats()
                self.assertEqual((stats.in_flight, stats.waiting), (0, 0))


class Decorator(unittest.TestCase):
    def test_dedupe(self):
        with Table(completed_ttl=60) as table:
            calls = []

            @dedupe(table, key=lambda number, scale=1: f"{number}*{scale}")
            def work(number, scale=1):
                """Docs stay."""
                calls.append(number)
                return number * scale

            self.assertEqual([work(2), work(2), work(3), work(2, scale=10)], [2, 2, 3, 20])
            self.assertEqual(calls, [2, 3, 2])
            self.assertEqual((work.__name__, work.__doc__), ("work", "Docs stay."))

    def test_functions_are_kept_apart_unless_scoped_together(self):
        with Table(completed_ttl=60) as table:
            one = dedupe(table, key=str)(lambda key: 1)

            def second(key):
                return 2

            self.assertEqual((one("k"), dedupe(table, key=str)(second)("k")), (1, 2))
            bare = dedupe(table, key=str, scope="")(second)
            self.assertEqual(bare("k"), 2)
            self.assertEqual(table.run("k", self.fail), 2)
            table.forget("k")
            self.assertIsInstance(table.begin("k"), Lead)

    def test_methods(self):
        with Table(completed_ttl=60) as table:
            class Service:
                calls = 0

                @dedupe(table, key=lambda self, user: user)
                def load(self, user):
                    Service.calls += 1
                    return user.upper()

            service = Service()
            self.assertEqual([service.load("a"), service.load("a")], ["A", "A"])
            self.assertEqual(Service.calls, 1)


if __name__ == "__main__":
    unittest.main()
