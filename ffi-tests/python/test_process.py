"""Signals and forks."""

import os
import signal
import threading
import time
import unittest

from support import PATIENCE, Thread, in_child, onceflight, python, until_waiting
from onceflight import Lead, Table

WAITER = """
import signal, sys, threading, time
from onceflight import Lead, Table

signal.signal(signal.SIGINT, signal.default_int_handler)
table = Table()
lead = table.begin("k")

def tell():
    while table.stats().waiting != 1:
        time.sleep(0.001)
    print("waiting", flush=True)

threading.Thread(target=tell, daemon=True).start()
try:
    {wait}
except KeyboardInterrupt:
    interrupted = time.monotonic()
    assert table.stats().waiting == 0, "the line was left"
    lead.cancel()
    assert isinstance(table.begin("k", timeout=0), Lead), "the key is free"
    print(interrupted, flush=True)
"""


class Interrupts(unittest.TestCase):
    def interrupted(self, wait):
        """How long after SIGINT the wait ended, the best of some: a loaded machine may delay one."""
        best = PATIENCE
        for _ in range(10):
            with python("-c", WAITER.format(wait=wait)) as child:
                self.assertEqual(child.stdout.readline(), "waiting\n")
                sent = time.monotonic()  # one clock for all processes
                child.send_signal(signal.SIGINT)
                out, err = child.communicate(timeout=PATIENCE)
                self.assertEqual((child.returncode, err), (0, ""))
                best = min(best, float(out) - sent)
            if best < 0.1:
                break
        return best

    def test_ctrl_c_ends_a_begin(self):
        self.assertLess(self.interrupted('table.begin("k")'), 0.1)

    def test_ctrl_c_ends_a_run(self):
        self.assertLess(self.interrupted('table.run("k", print, timeout=600)'), 0.1)

    def test_a_wait_of_the_main_thread_keeps_its_place(self):
        """Several slices long, and still the first in line."""
        with Table() as table:
            lead = table.begin("k")

            def later():
                until_waiting(table, 1)
                second = Thread(table.begin, "k")
                until_waiting(table, 2)
                time.sleep(0.2)  # four slices: a wait that lines up anew each time is behind by then
                lead.cancel()
                return second

            second = Thread(later)
            mine = table.begin("k")
            self.assertIsInstance(mine, Lead)
            mine.complete(b"x")
            self.assertEqual(second.result().result().data, b"x")

    def test_other_signals_are_handled_while_the_main_thread_waits(self):
        handled = threading.Event()
        before = signal.signal(signal.SIGUSR1, lambda *_: handled.set())
        try:
            with Table() as table:
                lead = table.begin("k")

                def later():
                    until_waiting(table, 1)
                    os.kill(os.getpid(), signal.SIGUSR1)
                    self.assertTrue(handled.wait(PATIENCE))
                    lead.complete(b"x")

                thread = Thread(later)
                self.assertEqual(table.begin("k").data, b"x")
                thread.result()
        finally:
            signal.signal(signal.SIGUSR1, before)


class Forks(unittest.TestCase):
    def test_a_child_is_told_and_opens_its_own(self):
        table = Table(completed_ttl=60)
        table.run("kept", lambda: 1)
        lead = table.begin("k")

        def child():
            for call in (
                lambda: table.begin("k"), lambda: table.run("kept", lambda: 2), lead.cancel, table.stats,
                lambda: table.forget("kept"),
            ):  # fmt: skip
                try:
                    call()
                    return "no exception"
                except onceflight.Forked:
                    pass
            with Table(completed_ttl=60) as own:
                own.run("k", lambda: 3)
                return own.run("k", lambda: 4)

        self.assertEqual(in_child(child), "3")
        lead.complete(b"still mine")
        self.assertEqual(table.begin("k").data, b"still mine")

    def test_a_fork_while_other_threads_run(self):
        with Table(completed_ttl=0.001) as table:
            stop = threading.Event()

            def hammer():
                while not stop.is_set():
                    table.run("k", object)

            threads = [Thread(hammer) for _ in range(3)]

            def child():
                try:
                    return table.run("k", object)
                except onceflight.Forked:
                    with Table() as own:
                        return own.run("k", lambda: "own")

            try:
                self.assertEqual([in_child(child) for _ in range(10)], ["own"] * 10)
            finally:
                stop.set()
            for thread in threads:
                thread.result()


if __name__ == "__main__":
    unittest.main()
