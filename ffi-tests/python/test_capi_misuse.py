"""The C ABI misused: an answer each time, never a crash."""

import unittest
from ctypes import byref, c_char_p, c_size_t, c_uint64, c_void_p, create_string_buffer, sizeof

from capi import *  # noqa: F403
from capi import E_INVALID, E_NULL, E_STALE, E_STORE, E_TOO_LARGE, E_UNSUPPORTED


class Nulls(unittest.TestCase):
    def test_free_takes_null(self):
        for handle in ("options", "table", "queue", "response", "sessions", "rows"):
            getattr(api, f"{handle}_free")(None)

    def test_tables_and_options(self):
        out = c_void_p()
        self.assertEqual(api.table_new(None, None), E_NULL)
        self.assertEqual(api.table_open(None, None, byref(out)), E_NULL)
        self.assertEqual(api.table_open(b"memory:", None, None), E_NULL)
        self.assertEqual(api.table_close(None), E_NULL)
        self.assertEqual(api.table_stats(None, byref(Stats(sizeof(Stats)))), E_NULL)
        for name in SETTERS:
            self.assertEqual(getattr(api, f"options_set_{name}")(None, 1), E_NULL, name)

    def test_begin(self):
        lead, response = c_uint64(7), c_void_p(7)
        out = byref(lead), byref(response)
        wanted = request(b"k")
        with a_table() as t, a_queue() as q:
            self.assertEqual(api.begin(None, b"k", 1, 0, *out), E_NULL)
            self.assertEqual((lead.value, response.value), (0, None))
            self.assertEqual(api.begin(t, None, 1, 0, *out), E_NULL)
            self.assertEqual(api.begin(t, b"k", 1, 0, None, out[1]), E_NULL)
            self.assertEqual(api.begin(t, b"k", 1, 0, out[0], None), E_NULL)
            self.assertEqual(api.begin_request(None, byref(wanted), *out), E_NULL)
            self.assertEqual(api.begin_request(t, None, *out), E_NULL)
            self.assertEqual(api.begin_request(t, byref(wanted), None, out[1]), E_NULL)
            self.assertEqual(api.begin_async(None, byref(wanted), q, 1, *out), E_NULL)
            self.assertEqual(api.begin_async(t, None, q, 1, *out), E_NULL)
            self.assertEqual(api.begin_async(t, byref(wanted), None, 1, *out), E_NULL)
            self.assertEqual(api.begin_async(t, byref(wanted), q, 1, None, None), E_NULL)
            self.assertEqual(stats(t)["leads"], 0)  # none of them led

    def test_settle(self):
        with a_table() as t:
            lead = begin(t, b"k").lead
            self.assertEqual(complete(None, lead), E_NULL)
            self.assertEqual(api.complete(t, lead, 0, None, 1), E_NULL)
            self.assertEqual(api.complete_for(None, lead, 0, b"", 0, 1), E_NULL)
            for call in (api.cancel, api.abandon, api.decline):
                self.assertEqual(call(None, lead), E_NULL)
            self.assertEqual(api.renew(None, lead, 1), E_NULL)
            self.assertEqual(api.checkpoint(None, lead, b"", 0), E_NULL)
            self.assertEqual(api.checkpoint(t, lead, None, 1), E_NULL)
            self.assertEqual(api.lead_details(None, lead, byref(LeadInfo(sizeof(LeadInfo)))), E_NULL)
            self.assertEqual(api.lead_details(t, lead, None), E_NULL)
            self.assertEqual(api.forget(None, b"k", 1), E_NULL)
            self.assertEqual(api.forget(t, None, 1), E_NULL)
            self.assertEqual(complete(t, lead), OK)  # none of them settled it

    def test_queues(self):
        self.assertEqual(api.queue_new(None), E_NULL)
        self.assertLess(api.queue_fd(None), 0)
        self.assertEqual(api.queue_next(None, 0, byref(Event(sizeof(Event)))), E_NULL)
        self.assertEqual(api.queue_leave(None, 1), E_NULL)
        with a_queue() as q:
            self.assertEqual(api.queue_next(q, 0, None), E_NULL)

    def test_keys_and_text(self):
        out = create_string_buffer(16)
        self.assertEqual(api.fingerprint(None, 1, None, out), E_NULL)
        self.assertEqual(api.fingerprint(None, 0, None, None), E_NULL)
        self.assertEqual(api.request_key(None, b"/", None, 0, None, 0, None, out), E_NULL)
        self.assertEqual(api.request_key(b"GET", None, None, 0, None, 0, None, out), E_NULL)
        self.assertEqual(api.request_key(b"GET", b"/", None, 1, None, 0, None, out), E_NULL)
        self.assertEqual(api.request_key(b"GET", b"/", None, 0, None, 1, None, out), E_NULL)
        self.assertEqual(api.request_key(b"GET", b"/", None, 0, None, 0, None, None), E_NULL)
        self.assertEqual(api.last_error(out, None), E_NULL)
        size = c_size_t(16)
        self.assertIn(api.last_error(c_char_p(None), byref(size)), (E_NULL, CODES["E_BUFFER"]))

    def test_responses(self):
        self.assertFalse(api.response_retain(None))
        self.assertEqual(api.response_len(None), 0)
        self.assertIsInstance(api.response_status(None), int)
        api.response_data(None)


class Leads(unittest.TestCase):
    def settles(self, t, lead):
        info = LeadInfo(sizeof(LeadInfo))
        return [
            complete(t, lead), api.complete_for(t, lead, 0, b"", 0, 1), api.cancel(t, lead),
            api.abandon(t, lead), api.decline(t, lead), api.renew(t, lead, 1),
            api.checkpoint(t, lead, b"", 0), api.lead_details(t, lead, byref(info)),
            api.cancel_with(t, lead, 0, b"", 0), api.abandon_with(t, lead, 0, b"", 0),
        ]  # fmt: skip

    def test_numbers_that_are_no_lead(self):
        with a_table() as t:
            begin(t, b"k")
            for lead in (0, 1, 2**32, 2**63, 2**64 - 1):
                self.assertEqual(self.settles(t, lead), [E_STALE] * 10, lead)

    def test_a_lead_settles_once(self):
        for ending in (complete, api.cancel, api.abandon, api.decline):
            with a_table() as t:
                lead = begin(t, b"k").lead
                self.assertEqual(ending(t, lead), OK)
                self.assertEqual(self.settles(t, lead), [E_STALE] * 10)

    def test_a_lead_of_another_table(self):
        with a_table() as t, a_table() as other:
            lead = begin(t, b"k").lead
            begin(other, b"k")
            self.assertEqual(self.settles(other, lead), [E_STALE] * 10)
            self.assertEqual(complete(t, lead), OK)

    def test_leads_never_repeat(self):
        leads = set()
        for _ in range(3):
            with a_table() as t:
                for number in range(200):
                    lead = begin(t, b"%d" % (number % 7)).lead
                    complete(t, lead)
                    leads.add(lead)
        self.assertEqual(len(leads), 600)


class Sizes(unittest.TestCase):
    def test_huge_lengths_are_refused_unread(self):
        lead, response = c_uint64(), c_void_p()
        with a_table(max_key_len=1000, max_response_len=1000) as t:
            for length in (1001, 2**40, 2**63, SIZE_MAX):
                code = api.begin(t, b"k", length, 0, byref(lead), byref(response))
                self.assertIn(code, (E_TOO_LARGE, E_INVALID), length)
            held = begin(t, b"k").lead
            for length in (1001, 2**40, 2**63, SIZE_MAX):
                self.assertIn(api.complete(t, held, 0, b"x", length), (E_TOO_LARGE, E_INVALID), length)
                self.assertIn(api.checkpoint(t, held, b"x", length), (E_TOO_LARGE, E_INVALID), length)
            self.assertEqual(complete(t, held, b"x" * 1000), OK)  # a refusal leaves the lead live

    def test_a_struct_smaller_than_the_first_release_s(self):
        lead, response = c_uint64(), c_void_p()
        with a_table() as t, a_queue() as q:
            for size in (0, 1, 8):
                small = request(b"k")
                small.struct_size = size
                code = api.begin_request(t, byref(small), byref(lead), byref(response))
                self.assertEqual(code, E_INVALID)
                self.assertEqual(api.table_stats(t, byref(Stats(size))), E_INVALID)
                self.assertEqual(api.queue_next(q, 0, byref(Event(size))), E_INVALID)
                held = begin(t, b"held").lead
                self.assertEqual(api.lead_details(t, held, byref(LeadInfo(size))), E_INVALID)
                api.cancel(t, held)

    def test_unknown_flags_and_settings(self):
        options = api.options_new()
        self.assertEqual(api.options_set_on_cancel(options, 99), E_INVALID)
        self.assertEqual(api.options_set_on_lease_expired(options, 99), E_INVALID)
        api.options_free(options)
        with a_table() as t:
            self.assertEqual(begin_request(t, b"k", flags=1 << 31).code, E_INVALID)


class Urls(unittest.TestCase):
    def test_open(self):
        out = c_void_p(7)
        self.assertEqual(api.table_open(b"memory:", None, byref(out)), OK)
        api.table_free(out)
        for url in (b"redis://localhost:1", b"postgres://localhost:1/d"):
            out = c_void_p(7)  # as the library was built: with the store, which can't be reached, or without
            self.assertIn(api.table_open(url, None, byref(out)), (E_STORE, E_UNSUPPORTED), url)
            self.assertIsNone(out.value)
        for url in (b"", b"nonsense", b"\xff\xfe:"):
            self.assertIn(api.table_open(url, None, byref(out)), (E_INVALID, E_UNSUPPORTED), url)

    def test_statements_of_no_store(self):
        for url in (b"", b"memory:", b"nonsense", b"redis://h", b"\xff\xfe:"):
            size = c_size_t(8)
            self.assertEqual(api.sql(url, b"look", None, byref(size)), E_UNSUPPORTED, url)
            self.assertEqual(size.value, 0)
        self.assertEqual(api.sql(None, b"look", None, byref(size)), E_NULL)
        self.assertEqual(api.sql(b"sqlite:", b"look", None, None), E_NULL)


if __name__ == "__main__":
    unittest.main()
