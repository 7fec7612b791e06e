"""The package: leads that several threads settle at once, and leads that die in a cycle."""

import gc
import sys
import threading
import unittest

from support import onceflight
from onceflight import Lead, Table


class Settling(unittest.TestCase):
    def test_two_threads_settle_one_lead(self):
        """Exactly one of them does, and nobody settles what another thread began meanwhile: grants are used again."""
        rounds, table, going = 1000, Table(), threading.Event()
        stale, mistaken, current = [0, 0], [], [None]
        barrier = threading.Barrier(3)

        def settler(which):
            while True:
                barrier.wait()
                lead = current[0]
                if lead is None:
                    return
                try:
                    lead.cancel() if which else lead.complete(b"x")
                except onceflight.Stale:
                    stale[which] += 1
                barrier.wait()

        def another():
            while not going.is_set():
                lead = table.begin(b"another", timeout=60)
                if isinstance(lead, Lead):
                    try:
                        lead.complete(b"o")
                    except onceflight.Stale:
                        mistaken.append(lead)

        threads = [threading.Thread(target=settler, args=(which,)) for which in (0, 1)]
        threads += [threading.Thread(target=another) for _ in range(2)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # threads take turns as often as they can
        try:
            for thread in threads:
                thread.start()
            for number in range(rounds):
                current[0] = table.begin(str(number))
                barrier.wait()
                barrier.wait()
            current[0] = None
            barrier.wait()
            going.set()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        self.assertEqual((sum(stale), mistaken), (rounds, []))

    def test_leads_and_views_that_die_in_a_cycle(self):
        """Their finalizers may run after the table's."""

        told, broken = [], []

        class Late:
            def __del__(self):
                try:
                    self.lead.complete(b"x")
                except onceflight.OnceflightError as error:
                    told.append(error)

        before, sys.unraisablehook = sys.unraisablehook, broken.append
        self.addCleanup(setattr, sys, "unraisablehook", before)
        for _ in range(50):
            table, late = Table(), Late()
            late.lead, late.me, table.late = table.begin(b"a"), late, late
            kept = Table(completed_ttl=9)
            kept.begin(b"a").complete(b"b")
            response = kept.begin(b"a")
            response.view
            kept.me = kept
            del table, late, kept, response
            gc.collect()
        self.assertEqual((len(told) <= 50, broken), (True, []))


if __name__ == "__main__":
    unittest.main()
