"""Every function of the C ABI, from ctypes: what it does when used as meant."""

import unittest
from ctypes import byref, c_size_t, c_uint64, c_void_p, create_string_buffer, sizeof
from pathlib import Path

from capi import *  # noqa: F403
from capi import CODES, E_CANCELLED, E_MISMATCH, E_OVERLOADED, E_STALE, E_TIMEOUT, E_UNKNOWN  # noqa: F401
from capi import E_WOULD_DEADLOCK


class Names(unittest.TestCase):
    def test_every_function_of_the_header_is_called_somewhere(self):
        text = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
        called = {name for name in header_functions() if f"api.{name}(" in text}
        called |= {f"options_set_{name}" for name in SETTERS}
        self.assertEqual(header_functions() - called, set())
        self.assertGreater(len(header_functions()), 40)

    def test_version(self):
        macros = header_macros()
        parts = [macros[f"VERSION_{part}"] for part in ("MAJOR", "MINOR", "PATCH")]
        self.assertEqual(api.version_string().decode(), ".".join(map(str, parts)))
        self.assertEqual(api.version_number(), parts[0] * 1_000_000 + parts[1] * 1000 + parts[2])

    def test_codes(self):
        macros = header_macros()
        for name, code in CODES.items():
            self.assertEqual(macros[name], code)
            self.assertEqual(api.err_name(code).decode(), f"ONCEFLIGHT_{name}")
            self.assertTrue(api.strerror(code))
        for name in ("OK", "LEAD", "SHARED", "REPLAYED", "PENDING", "BYPASS"):
            self.assertEqual(macros[name], globals()[name])

    def test_unknown_codes_have_a_name_too(self):
        for code in (-9999, 9999, -17, -(2**31)):
            self.assertTrue(api.err_name(code))
            self.assertTrue(api.strerror(code))

    def test_last_error_tells_its_size_and_stays(self):
        self.assertEqual(begin(None, b"k").code, CODES["E_NULL"])
        size = c_size_t(0)
        self.assertEqual(api.last_error(None, byref(size)), CODES["E_BUFFER"])
        needed = size.value
        self.assertGreater(needed, 1)
        small = create_string_buffer(b"#" * needed, needed)
        size = c_size_t(needed - 1)
        self.assertEqual(api.last_error(small, byref(size)), CODES["E_BUFFER"])
        self.assertEqual((size.value, small.raw), (needed, b"#" * needed))
        self.assertEqual(api.last_error(small, byref(size)), OK)
        self.assertEqual(len(small.value), needed - 1)
        self.assertEqual(api.last_error(small, byref(size)), OK)


class Flights(unittest.TestCase):
    def test_lead_then_replay_then_expire(self):
        with a_table(completed_ttl_ms=FOREVER) as t:
            lead = begin(t, b"k")
            self.assertEqual(lead.code, LEAD)
            self.assertNotEqual(lead.lead, 0)
            self.assertEqual(complete(t, lead.lead, b"body", 200), OK)
            again = begin(t, b"k")
            self.assertEqual((again.code, again.lead, again.status, again.data), (REPLAYED, 0, 200, b"body"))
            self.assertEqual(api.forget(t, b"k", 1), OK)
            self.assertEqual(begin(t, b"k").code, LEAD)

    def test_by_default_nothing_is_retained(self):
        with a_table() as t:
            complete(t, begin(t, b"k").lead)
            self.assertEqual(begin(t, b"k").code, LEAD)

    def test_the_window_passes(self):
        with a_table(completed_ttl_ms=20) as t:
            complete(t, begin(t, b"k").lead)
            until(lambda: begin(t, b"k", 0).code == LEAD)

    def test_complete_for_has_a_window_of_its_own(self):
        with a_table(completed_ttl_ms=FOREVER) as t:
            lead = begin(t, b"k").lead
            self.assertEqual(api.complete_for(t, lead, 1, b"x", 1, 0), OK)
            self.assertEqual(stats(t)["completed"], 0)
            lead = begin(t, b"k").lead
            self.assertEqual(api.complete_for(t, lead, 1, b"x", 1, 60_000), OK)
            self.assertEqual(begin(t, b"k").code, REPLAYED)

    def test_followers_share_one_execution(self):
        with a_table() as t:
            lead = begin(t, b"k").lead
            followers = [Thread(begin, t, b"k") for _ in range(8)]
            until_waiting(t, 8)
            self.assertEqual(complete(t, lead, b"one", -7), OK)
            for follower in followers:
                got = follower.result()
                self.assertEqual((got.code, got.lead, got.status, got.data), (SHARED, 0, -7, b"one"))
            self.assertEqual((stats(t)["leads"], stats(t)["shared"]), (1, 8))

    def test_keys_are_bytes(self):
        with a_table(completed_ttl_ms=FOREVER) as t:
            keys = [b"", b"\0", b"\0\0", b"\xff\xfe", "schlüssel".encode(), b"k" * 300]
            for key in keys:
                lead = begin(t, key)
                self.assertEqual(lead.code, LEAD, key)
                self.assertEqual(complete(t, lead.lead, key), OK)
            for key in keys:
                self.assertEqual(begin(t, key).data, key)

    def test_empty_body(self):
        with a_table(completed_ttl_ms=FOREVER) as t:
            lead = begin(t, b"k").lead
            self.assertEqual(api.complete(t, lead, 204, None, 0), OK)
            response, unused = c_void_p(), c_uint64()
            self.assertEqual(api.begin(t, b"k", 1, 0, byref(unused), byref(response)), REPLAYED)
            self.assertTrue(api.response_data(response))  # never NULL
            self.assertEqual(read(response), (204, b""))
            api.response_free(response)

    def test_null_key_of_length_0_is_the_empty_key(self):
        with a_table(completed_ttl_ms=FOREVER) as t:
            complete(t, begin(t, b"").lead, b"x")
            lead, response = c_uint64(), c_void_p()
            self.assertEqual(api.begin(t, None, 0, 0, byref(lead), byref(response)), REPLAYED)
            api.response_free(response)

    def test_fingerprints(self):
        with a_table(completed_ttl_ms=FOREVER) as t:
            lead = begin_request(t, b"k", fingerprint=b"a").lead
            self.assertEqual(begin_request(t, b"k", fingerprint=b"b", timeout_ms=0).code, E_MISMATCH)
            self.assertEqual(begin_request(t, b"k", timeout_ms=0).code, E_MISMATCH)
            self.assertEqual(begin_request(t, b"k", fingerprint=b"", timeout_ms=0).code, E_MISMATCH)
            self.assertEqual(begin_request(t, b"k", fingerprint=b"a", timeout_ms=0).code, E_TIMEOUT)
            complete(t, lead)
            self.assertEqual(begin_request(t, b"k", fingerprint=b"b").code, E_MISMATCH)
            self.assertEqual(begin_request(t, b"k", fingerprint=b"a").code, REPLAYED)

    def test_timeouts(self):
        with a_table() as t:
            lead = begin(t, b"k").lead
            self.assertEqual(begin(t, b"k", 0).code, E_TIMEOUT)
            self.assertEqual(begin(t, b"k", 20).code, E_TIMEOUT)
            self.assertEqual((stats(t)["timeouts"], stats(t)["waiting"]), (2, 0))
            self.assertEqual(complete(t, lead), OK)

    def test_limits(self):
        with a_table(max_in_flight=1) as t:
            lead = begin(t, b"a").lead
            self.assertEqual(begin(t, b"b").code, E_OVERLOADED)
            api.cancel(t, lead)
            self.assertEqual(begin(t, b"b").code, LEAD)
        with a_table(max_waiters=1) as t:
            lead = begin(t, b"k").lead
            first = Thread(begin, t, b"k")
            until_waiting(t, 1)
            self.assertEqual(begin(t, b"k").code, E_OVERLOADED)
            self.assertEqual(begin(t, b"k", 0).code, E_TIMEOUT)
            complete(t, lead)
            self.assertEqual(first.result().code, SHARED)

    def test_completed_entries_and_bytes_are_bounded(self):
        with a_table(completed_ttl_ms=FOREVER, max_completed=4) as t:
            for number in range(100):
                complete(t, begin(t, b"%d" % number).lead)
                self.assertLessEqual(stats(t)["completed"], 4)
            self.assertEqual(stats(t)["evictions"], 96)
        with a_table(completed_ttl_ms=FOREVER, max_completed_bytes=1000) as t:
            for number in range(100):
                complete(t, begin(t, b"%d" % number).lead, b"x" * 100)
                self.assertLessEqual(stats(t)["completed_bytes"], 1000)

    def test_details_checkpoint_and_fence(self):
        with a_table() as t:
            first = begin(t, b"k").lead
            before = self.details(t, first)
            self.assertEqual(before[1:], (1, None))
            self.assertEqual(api.checkpoint(t, first, b"half\0way", 8), OK)
            follower = Thread(begin, t, b"k")
            until_waiting(t, 1)
            self.assertEqual(api.abandon(t, first), OK)
            second = follower.result()
            self.assertEqual(second.code, LEAD)
            after = self.details(t, second.lead)
            self.assertGreater(after[0], before[0])
            self.assertEqual(after[1:], (2, b"half\0way"))
            complete(t, second.lead)
            third = begin(t, b"k").lead
            fresh = self.details(t, third)
            self.assertGreater(fresh[0], after[0])
            self.assertEqual(fresh[1:], (1, None))

    def details(self, t, lead):
        info = LeadInfo(sizeof(LeadInfo))
        self.assertEqual(api.lead_details(t, lead, byref(info)), OK)
        left = None
        if info.checkpoint:
            left = read(info.checkpoint)[1]
            api.response_free(info.checkpoint)
        return info.fence, info.attempt, left

    def test_forget_detaches_a_flight(self):
        with a_table(completed_ttl_ms=FOREVER) as t:
            old = begin(t, b"k").lead
            follower = Thread(begin, t, b"k")
            until_waiting(t, 1)
            self.assertEqual(api.forget(t, b"k", 1), OK)
            new = begin(t, b"k")
            self.assertEqual(new.code, LEAD)
            self.assertEqual(complete(t, old, b"old"), OK)
            self.assertEqual(follower.result().data, b"old")
            self.assertEqual(complete(t, new.lead, b"new"), OK)
            self.assertEqual(begin(t, b"k").data, b"new")


class Endings(unittest.TestCase):
    def test_cancel_promotes_in_order_of_arrival(self):
        with a_table() as t:
            lead = begin(t, b"k").lead
            line = []
            for number in range(3):
                line.append(Thread(begin, t, b"k"))
                until_waiting(t, number + 1)
            for follower in line:
                self.assertEqual(api.cancel(t, lead), OK)
                got = follower.result()
                self.assertEqual(got.code, LEAD)
                lead = got.lead
            api.cancel(t, lead)
            self.assertEqual((stats(t)["promotions"], stats(t)["in_flight"]), (3, 0))

    def test_cancel_may_fail_all(self):
        with a_table(on_cancel=header_macros()["FAIL_ALL"]) as t:
            lead = begin(t, b"k").lead
            followers = [Thread(begin, t, b"k") for _ in range(3)]
            until_waiting(t, 3)
            api.cancel(t, lead)
            self.assertEqual([follower.result().code for follower in followers], [E_CANCELLED] * 3)

    def test_decline_releases_all(self):
        with a_table() as t:
            lead = begin(t, b"k").lead
            followers = [Thread(begin, t, b"k") for _ in range(3)]
            until_waiting(t, 3)
            self.assertEqual(api.decline(t, lead), OK)
            self.assertEqual([follower.result().code for follower in followers], [BYPASS] * 3)
            self.assertEqual(stats(t)["bypassed"], 3)

    def test_a_passed_lease_permits_a_takeover(self):
        with a_table(lease_ms=20) as t:
            first = begin(t, b"k").lead
            second = begin(t, b"k")
            self.assertEqual(second.code, LEAD)
            self.assertEqual(complete(t, first), E_STALE)
            self.assertEqual(complete(t, second.lead), OK)
            self.assertEqual((stats(t)["takeovers"], stats(t)["stale"]), (1, 1))

    def test_renew_starts_the_lease_again(self):
        with a_table(lease_ms=20) as t:
            lead = begin(t, b"k").lead
            self.assertEqual(api.renew(t, lead, FOREVER), OK)
            self.assertEqual(begin(t, b"k", 100).code, E_TIMEOUT)
            self.assertEqual(complete(t, lead), OK)

    def test_hold_leaves_the_key_unknown_until_it_is_recovered(self):
        with a_table(on_lease_expired=header_macros()["HOLD"]) as t:
            lead = begin(t, b"k").lead
            follower = Thread(begin, t, b"k")
            until_waiting(t, 1)
            api.abandon(t, lead)
            self.assertEqual(follower.result().code, E_UNKNOWN)
            self.assertEqual(begin(t, b"k").code, E_UNKNOWN)
            again = begin_request(t, b"k", flags=header_macros()["RECOVER"])
            self.assertEqual(again.code, LEAD)
            self.assertEqual(complete(t, again.lead), OK)

    def test_a_crowd_in_turn(self):
        flag = header_macros()["IN_TURN"]

        def follow(t, turn_done):
            outcome = begin_request(t, b"k", flags=flag)
            turn_done()
            return outcome.code, outcome.data

        for turn_done in (lambda: api.turn_done(), lambda: None):  # who forgets it keeps nobody
            with a_table() as t:
                lead = begin_request(t, b"k", flags=flag).lead
                followers = [Thread(follow, t, turn_done) for _ in range(64)]
                until_waiting(t, 64)
                self.assertEqual(complete(t, lead, b"shared"), OK)
                self.assertEqual({thread.result() for thread in followers}, {(SHARED, b"shared")})

    def test_same_thread_reentry_would_deadlock(self):
        flag = header_macros()["SAME_THREAD"]
        with a_table() as t:
            lead = begin_request(t, b"k", flags=flag).lead
            self.assertEqual(begin_request(t, b"k", flags=flag).code, E_WOULD_DEADLOCK)
            self.assertEqual(complete(t, lead), OK)

    def test_a_ring_of_threads_would_deadlock(self):
        flag = header_macros()["SAME_THREAD"]
        with a_table() as t:
            mine = begin_request(t, b"mine", flags=flag).lead

            def other():
                theirs = begin_request(t, b"theirs", flags=flag).lead
                code = begin_request(t, b"mine", flags=flag).code
                complete(t, theirs)
                return code

            thread = Thread(other)
            until_waiting(t, 1)
            self.assertEqual(begin_request(t, b"theirs", flags=flag).code, E_WOULD_DEADLOCK)
            complete(t, mine)
            self.assertEqual(thread.result(), SHARED)


class Lifetimes(unittest.TestCase):
    def test_responses_outlive_their_table(self):
        t = table(completed_ttl_ms=FOREVER)
        complete(t, begin(t, b"k").lead, b"kept")
        response, lead = c_void_p(), c_uint64()
        self.assertEqual(api.begin(t, b"k", 1, 0, byref(lead), byref(response)), REPLAYED)
        second = api.response_retain(response)
        self.assertTrue(second)
        api.table_free(t)
        api.response_free(response)
        self.assertEqual(read(second), (0, b"kept"))
        api.response_free(second)

    def test_free_while_another_thread_waits(self):
        t = table()
        begin(t, b"k")
        followers = [Thread(begin, t, b"k") for _ in range(4)]
        until_waiting(t, 4)
        api.table_free(t)
        self.assertEqual([follower.result().code for follower in followers], [CODES["E_CLOSED"]] * 4)

    def test_close_wakes_everybody_and_leads_still_settle(self):
        with a_table() as t:
            lead = begin(t, b"k").lead
            follower = Thread(begin, t, b"k")
            until_waiting(t, 1)
            self.assertEqual(api.table_close(t), OK)
            self.assertEqual(follower.result().code, CODES["E_CLOSED"])
            self.assertEqual(begin(t, b"other").code, CODES["E_CLOSED"])
            self.assertEqual(complete(t, lead), OK)

    def test_no_descriptor_leaks(self):
        descriptors = Path("/proc/self/fd")
        if not descriptors.exists():
            self.skipTest("no /proc")
        with a_table(), a_queue():
            before = len(list(descriptors.iterdir()))
            for _ in range(50):
                with a_table(), a_queue():
                    pass
            self.assertEqual(len(list(descriptors.iterdir())), before)


class Forks(unittest.TestCase):
    def test_a_child_is_told_and_opens_its_own(self):
        with a_table(completed_ttl_ms=FOREVER) as t, a_queue() as q:
            lead = begin(t, b"k").lead
            forked = CODES["E_FORKED"]

            def child():
                found = Stats(sizeof(Stats))
                answers = {
                    begin(t, b"k").code, begin(t, b"other", 0).code, complete(t, lead),
                    api.forget(t, b"k", 1), api.table_stats(t, byref(found)), api.table_close(t),
                    api.queue_next(q, 0, byref(Event(sizeof(Event)))),
                    begin_async(t, q, 1, b"k").code,
                }  # fmt: skip
                api.table_free(t)
                api.queue_free(q)
                with a_table() as own:
                    fine = complete(own, begin(own, b"k").lead) == OK
                return f"{sorted(answers)} {fine}"

            self.assertEqual(in_child(child), f"[{forked}] True")
            self.assertEqual(complete(t, lead), OK)

    def test_a_fork_while_other_threads_hammer_the_table(self):
        with a_table() as t:
            stop = threading.Event()

            def hammer():
                while not stop.is_set():
                    lead = begin(t, b"k", 0)
                    if lead.code == LEAD:
                        complete(t, lead.lead)

            threads = [Thread(hammer) for _ in range(3)]
            try:
                for _ in range(20):
                    self.assertEqual(in_child(lambda: begin(t, b"k").code), str(CODES["E_FORKED"]))
            finally:
                stop.set()
            for thread in threads:
                thread.result()


class Keys(unittest.TestCase):
    def test_fingerprint(self):
        def of(*fields, secret=None):
            out = create_string_buffer(16)
            slices = (Slice * len(fields))(*(Slice(field, len(field)) for field in fields))
            self.assertEqual(api.fingerprint(slices, len(fields), secret, out), OK)
            return out.raw

        self.assertEqual(of(b"a", b"b"), of(b"a", b"b"))
        distinct = {of(), of(b""), of(b"ab", b"c"), of(b"a", b"bc"), of(b"abc"), of(b"abc", secret=b"s" * 16)}
        self.assertEqual(len(distinct), 6)

    def test_request_key(self):
        def of(method=b"GET", url=b"/a", headers=(), body=b"", secret=b"s" * 16):
            out = create_string_buffer(16)
            slices = (Slice * len(headers))(*(Slice(line, len(line)) for line in headers))
            code = api.request_key(method, url, slices, len(headers), body, len(body), secret, out)
            self.assertEqual(code, OK)
            return out.raw

        self.assertEqual(of(headers=[b"Accept: a", b"Cookie: b"]), of(headers=[b"cookie: b", b"accept:a"]))
        distinct = {
            of(), of(method=b"POST"), of(url=b"/b"), of(body=b"x"), of(headers=[b"Cookie: 1"]),
            of(headers=[b"Cookie: 2"]), of(secret=b"t" * 16), of(secret=None),
        }  # fmt: skip
        self.assertEqual(len(distinct), 8)
        self.assertEqual(of(secret=None), of(secret=None))


if __name__ == "__main__":
    unittest.main()
