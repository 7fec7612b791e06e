"""The event queue: a follower that doesn't block."""

import select
import unittest

from capi import *  # noqa: F403
from capi import CODES, E_TIMEOUT


def readable(queue, timeout=PATIENCE):
    """Waits on the descriptor alone: nothing else is called."""
    poll = select.poll()
    poll.register(api.queue_fd(queue), select.POLLIN)
    return bool(poll.poll(timeout * 1000))


class Queues(unittest.TestCase):
    def test_the_descriptor_tells_of_an_outcome(self):
        with a_table() as t, a_queue() as q:
            lead = begin_async(t, q, 1, b"k")
            self.assertEqual(lead.code, LEAD)  # at once: no event comes
            self.assertEqual(begin_async(t, q, 2, b"k").code, PENDING)
            self.assertEqual(begin_async(t, q, 3, b"k").code, PENDING)
            self.assertFalse(readable(q, 0))
            complete(t, lead.lead, b"body", 5)
            self.assertTrue(readable(q))
            got = dict(next_event(q) for _ in range(2))
            self.assertEqual(set(got), {2, 3})
            for outcome in got.values():
                self.assertEqual((outcome.code, outcome.lead), (SHARED, 0))
                self.assertEqual((outcome.status, outcome.data), (5, b"body"))
            self.assertFalse(readable(q, 0))
            self.assertIsNone(next_event(q, 0))

    def test_replay_is_told_at_once(self):
        with a_table(completed_ttl_ms=FOREVER) as t, a_queue() as q:
            complete(t, begin(t, b"k").lead, b"x")
            again = begin_async(t, q, 1, b"k")
            self.assertEqual((again.code, again.data), (REPLAYED, b"x"))

    def test_timeout_0_is_told_at_once_and_others_by_event(self):
        with a_table() as t, a_queue() as q:
            begin(t, b"k")
            self.assertEqual(begin_async(t, q, 1, b"k", timeout_ms=0).code, E_TIMEOUT)
            self.assertEqual(begin_async(t, q, 2, b"k", timeout_ms=20).code, PENDING)
            self.assertTrue(readable(q))
            tag, outcome = next_event(q, 0)
            self.assertEqual((tag, outcome.code, outcome.lead, outcome.data), (2, E_TIMEOUT, 0, None))
            self.assertEqual(stats(t)["waiting"], 0)

    def test_a_cancelled_lead_is_offered(self):
        with a_table() as t, a_queue() as q:
            lead = begin(t, b"k").lead
            begin_async(t, q, 9, b"k")
            api.cancel(t, lead)
            tag, outcome = next_event(q)
            self.assertEqual((tag, outcome.code, outcome.data), (9, LEAD, None))
            self.assertEqual(complete(t, outcome.lead), OK)

    def test_an_unread_offer_passes_on(self):
        with a_table(offer_ms=20) as t, a_queue() as deaf, a_queue() as q:
            lead = begin(t, b"k").lead
            begin_async(t, deaf, 1, b"k")
            begin_async(t, q, 2, b"k")
            api.abandon(t, lead)
            tag, outcome = next_event(q)
            self.assertEqual((tag, outcome.code), (2, LEAD))
            complete(t, outcome.lead, b"x")
            self.assertEqual(next_event(deaf)[1].code, SHARED)  # it went back in line

    def test_a_freed_queue_passes_its_offers_on(self):
        with a_table(offer_ms=FOREVER) as t, a_queue() as q:
            lead = begin(t, b"k").lead
            with a_queue() as doomed:
                begin_async(t, doomed, 1, b"k")
                begin_async(t, q, 2, b"k")
                api.cancel(t, lead)
                self.assertTrue(readable(doomed))
            tag, outcome = next_event(q)
            self.assertEqual((tag, outcome.code), (2, LEAD))

    def test_leave(self):
        with a_table() as t, a_queue() as q:
            lead = begin(t, b"k").lead
            begin_async(t, q, 1, b"k")
            begin_async(t, q, 2, b"k")
            self.assertEqual(api.queue_leave(q, 1), OK)
            self.assertEqual(stats(t)["waiting"], 1)
            complete(t, lead)
            self.assertEqual(next_event(q)[0], 2)
            self.assertIsNone(next_event(q, 0))

    def test_close_is_an_event_too(self):
        with a_table() as t, a_queue() as q:
            begin(t, b"k")
            begin_async(t, q, 1, b"k")
            api.table_close(t)
            self.assertTrue(readable(q))
            self.assertEqual(next_event(q)[1].code, CODES["E_CLOSED"])

    def test_next_waits_for_another_thread(self):
        with a_table() as t, a_queue() as q:
            lead = begin(t, b"k").lead
            begin_async(t, q, 1, b"k")
            waiting = Thread(next_event, q)
            complete(t, lead, b"x")
            self.assertEqual(waiting.result()[1].data, b"x")

    def test_queue_and_table_are_freed_in_any_order(self):
        for table_first in (True, False):
            t, out = table(), c_void_p()
            self.assertEqual(api.queue_new(byref(out)), OK)
            begin(t, b"k")
            self.assertEqual(begin_async(t, out, 1, b"k").code, PENDING)
            if table_first:
                api.table_free(t)
                self.assertEqual(next_event(out)[1].code, CODES["E_CLOSED"])
                api.queue_free(out)
            else:
                api.queue_free(out)
                self.assertEqual(stats(t)["waiting"], 0)
                api.table_free(t)


if __name__ == "__main__":
    unittest.main()
