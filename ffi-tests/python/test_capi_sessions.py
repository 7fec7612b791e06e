"""The C ABI's sessions, from ctypes: what each function does when used as meant."""

import unittest
from ctypes import byref, c_uint64, c_void_p, sizeof, string_at

from capi import *  # noqa: F403
from capi import E_EXPIRED, E_FENCED, E_FORMAT, LEAD, OK, REPLAYED

CLIENT = b"client", 6


def answer(call):
    """The code, and the status and data of the response, if there is one."""
    response = c_void_p(7)
    code = call(byref(response))
    told = read(response) if response.value else None
    api.response_free(response)
    return code, told


def whole(found):
    """Zeros included, at which c_char_p ends; None for NULL."""
    data = c_void_p.from_buffer(found).value
    return string_at(data, found.len) if data else None


class Sessions(unittest.TestCase):
    def setUp(self):
        self.sessions = c_void_p()
        self.assertEqual(api.sessions_new(10, 4, 1000, byref(self.sessions)), OK)

    def tearDown(self):
        api.sessions_free(self.sessions)

    def register(self, nonce, now=0):
        incarnation = c_uint64()
        code = api.sessions_register(self.sessions, *CLIENT, nonce, len(nonce), now, byref(incarnation))
        self.assertEqual(code, OK)
        return incarnation.value

    def begin(self, incarnation, seq, ack=0, digest=None, now=0):
        arguments = incarnation, seq, ack, digest, now
        return answer(lambda out: api.sessions_begin(self.sessions, *CLIENT, *arguments, out))

    def peek(self, incarnation, seq):
        return answer(lambda out: api.sessions_peek(self.sessions, *CLIENT, incarnation, seq, out))

    def test_the_life_of_a_session(self):
        first = self.register(b"nonce")
        self.assertEqual(self.register(b"nonce"), first)
        self.assertEqual(self.peek(first, 1), (OK, None))
        self.assertEqual(self.begin(first, 1), (LEAD, None))
        self.assertEqual(api.sessions_record(self.sessions, *CLIENT, first, 1, 7, b"done", 4), OK)
        self.assertEqual(self.begin(first, 1), (REPLAYED, (7, b"done")))
        self.assertEqual(self.peek(first, 1), (REPLAYED, (7, b"done")))
        self.assertEqual(api.sessions_keep_alive(self.sessions, *CLIENT, first, 500), OK)
        stats = SessionStats(sizeof(SessionStats))
        self.assertEqual(api.sessions_stats(self.sessions, byref(stats)), OK)
        self.assertEqual((stats.sessions, stats.response_bytes, stats.now_ms), (1, 4, 500))
        second = self.register(b"another")
        self.assertEqual(self.begin(first, 1), (E_FENCED, None))
        self.assertEqual(api.sessions_unregister(self.sessions, *CLIENT), OK)
        self.assertEqual(self.begin(second, 1), (E_EXPIRED, None))
        self.register(b"third", 1000)
        expired = c_uint64()
        self.assertEqual(api.sessions_expire(self.sessions, 2000, byref(expired)), OK)
        self.assertEqual(expired.value, 1)

    def test_snapshot_and_restore(self):
        self.begin(0, 1)
        self.assertEqual(api.sessions_record(self.sessions, *CLIENT, 0, 1, 7, b"done", 4), OK)
        code, (_, snapshot) = answer(lambda out: api.sessions_snapshot(self.sessions, out))
        self.assertEqual(code, OK)
        api.sessions_free(self.sessions)
        self.assertEqual(api.sessions_restore(snapshot, len(snapshot) - 1, byref(self.sessions)), E_FORMAT)
        self.assertFalse(self.sessions)
        self.assertEqual(api.sessions_restore(snapshot, len(snapshot), byref(self.sessions)), OK)
        self.assertEqual(self.begin(0, 1), (REPLAYED, (7, b"done")))

    def test_rows(self):
        self.begin(0, 1)
        self.assertEqual(api.sessions_record(self.sessions, *CLIENT, 0, 1, 7, b"done", 4), OK)
        rows, saved = c_void_p(), {}
        self.assertEqual(api.sessions_save(self.sessions, byref(rows)), OK)
        for index in range(api.rows_count(rows)):
            client, row = Slice(), Slice()
            self.assertEqual(api.rows_at(rows, index, byref(client), byref(row)), OK)
            saved[whole(client)] = whole(row)
        api.rows_free(rows)
        self.assertEqual(set(saved), {None, b"client"})
        api.sessions_free(self.sessions)
        session = Slice(saved[b"client"], len(saved[b"client"]))
        code = api.sessions_load(saved[None], len(saved[None]), byref(session), 1, byref(self.sessions))
        self.assertEqual(code, OK)
        self.assertEqual(self.begin(0, 1), (REPLAYED, (7, b"done")))

    def test_limits(self):
        api.sessions_free(self.sessions)
        limits = SessionLimits(sizeof(SessionLimits), *[DEFAULT] * 6)
        limits.max_response_len = 3
        self.assertEqual(api.sessions_with_limits(byref(limits), byref(self.sessions)), OK)
        self.begin(0, 1)
        code = api.sessions_record(self.sessions, *CLIENT, 0, 1, 0, b"long", 4)
        self.assertEqual(code, CODES["E_TOO_LARGE"])
        self.assertEqual(self.begin(0, 1), (code, None))


if __name__ == "__main__":
    unittest.main()
