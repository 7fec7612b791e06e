"""The C ABI spelt out for ctypes a second time, independent of the onceflight package."""

import contextlib
import ctypes
import os
import re
import threading
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "include" / "onceflight.h"
LIBRARY = os.environ.get("ONCEFLIGHT_LIBRARY") or str(ROOT / "target" / "release" / "libonceflight.so")
PATIENCE = 60  # seconds: an upper bound for what happens at once on a machine that isn't overloaded

OK, LEAD, SHARED, REPLAYED, PENDING, BYPASS = range(6)
CODES = {
    "E_NULL": -1, "E_INVALID": -2, "E_PANIC": -3, "E_TIMEOUT": -4, "E_STALE": -5, "E_CANCELLED": -6,
    "E_MISMATCH": -7, "E_WOULD_DEADLOCK": -8, "E_OVERLOADED": -9, "E_TOO_LARGE": -10, "E_CLOSED": -11,
    "E_FORKED": -12, "E_STORE": -13, "E_UNKNOWN": -14, "E_BUFFER": -15, "E_UNSUPPORTED": -16,
    "E_EXPIRED": -20, "E_FENCED": -21, "E_SEQ_STALE": -22, "E_WINDOW_FULL": -23, "E_CONFLICT": -24,
    "E_MALFORMED": -25, "E_FORMAT": -26,
}  # fmt: skip
globals().update(CODES)
FOREVER, DEFAULT = 2**64 - 1, 2**64 - 2
SIZE_MAX = ctypes.c_size_t(-1).value


class Request(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("key", c_char_p), ("key_len", c_size_t), ("fingerprint", c_char_p),
        ("fingerprint_len", c_size_t), ("timeout_ms", c_uint64), ("lease_ms", c_uint64),
        ("ttl_ms", c_uint64), ("flags", c_uint32),
    ]  # fmt: skip


class Event(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("tag", c_uint64), ("outcome", c_int32), ("lead", c_uint64),
        ("response", c_void_p),
    ]  # fmt: skip


STATS = (
    "leads shared replayed bypassed timeouts cancels promotions takeovers stale evictions "
    "in_flight waiting completed completed_bytes"
).split()


class Stats(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t)] + [(name, c_uint64) for name in STATS]


class LeadInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("fence", c_uint64), ("attempt", c_uint32), ("checkpoint", c_void_p),
    ]  # fmt: skip


class SessionLimits(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t)] + [
        (name, c_uint64)
        for name in "max_sessions window timeout_ms max_response_len max_session_bytes max_bytes".split()
    ]


class SessionStats(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t)] + [
        (name, c_uint64) for name in "sessions response_bytes now_ms".split()
    ]


class Slice(ctypes.Structure):
    _fields_ = [("data", c_char_p), ("len", c_size_t)]


SETTERS = (
    "completed_ttl_ms lease_ms heartbeat max_lead_ms max_in_flight max_waiters max_completed "
    "max_completed_bytes max_key_len max_response_len on_cancel on_lease_expired offer_ms store_timeout_ms"
).split()

LEAD_OUT = [POINTER(c_uint64), POINTER(c_void_p)]
TABLE_LEAD = [c_void_p, c_uint64]
DATA = [c_char_p, c_size_t]
CLIENT = [c_void_p, *DATA]
SIGNATURES = {
    "version_number": (c_uint32, []),
    "version_string": (c_char_p, []),
    "strerror": (c_char_p, [c_int32]),
    "err_name": (c_char_p, [c_int32]),
    "last_error": (c_int32, [c_char_p, POINTER(c_size_t)]),
    "options_new": (c_void_p, []),
    "options_free": (None, [c_void_p]),
    **{f"options_set_{name}": (c_int32, [c_void_p, c_uint64]) for name in SETTERS},
    "table_new": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "table_open": (c_int32, [c_char_p, c_void_p, POINTER(c_void_p)]),
    "table_close": (c_int32, [c_void_p]),
    "table_free": (None, [c_void_p]),
    "table_stats": (c_int32, [c_void_p, POINTER(Stats)]),
    "begin": (c_int32, [c_void_p, *DATA, c_uint64, *LEAD_OUT]),
    "begin_request": (c_int32, [c_void_p, POINTER(Request), *LEAD_OUT]),
    "turn_done": (None, []),
    "complete": (c_int32, [*TABLE_LEAD, c_int32, *DATA]),
    "complete_for": (c_int32, [*TABLE_LEAD, c_int32, *DATA, c_uint64]),
    "cancel": (c_int32, TABLE_LEAD),
    "cancel_with": (c_int32, [*TABLE_LEAD, c_int32, *DATA]),
    "abandon_with": (c_int32, [*TABLE_LEAD, c_int32, *DATA]),
    "abandon": (c_int32, TABLE_LEAD),
    "decline": (c_int32, TABLE_LEAD),
    "renew": (c_int32, [*TABLE_LEAD, c_uint64]),
    "checkpoint": (c_int32, [*TABLE_LEAD, *DATA]),
    "lead_details": (c_int32, [*TABLE_LEAD, POINTER(LeadInfo)]),
    "forget": (c_int32, [c_void_p, *DATA]),
    "response_status": (c_int32, [c_void_p]),
    "response_data": (c_void_p, [c_void_p]),
    "response_len": (c_size_t, [c_void_p]),
    "response_retain": (c_void_p, [c_void_p]),
    "response_free": (None, [c_void_p]),
    "queue_new": (c_int32, [POINTER(c_void_p)]),
    "queue_fd": (c_int, [c_void_p]),
    "queue_next": (c_int32, [c_void_p, c_uint64, POINTER(Event)]),
    "queue_leave": (c_int32, [c_void_p, c_uint64]),
    "queue_free": (None, [c_void_p]),
    "begin_async": (c_int32, [c_void_p, POINTER(Request), c_void_p, c_uint64, *LEAD_OUT]),
    "request_key": (c_int32, [c_char_p, c_char_p, POINTER(Slice), c_size_t, *DATA, c_char_p, c_char_p]),
    "fingerprint": (c_int32, [POINTER(Slice), c_size_t, c_char_p, c_char_p]),
    "sessions_new": (c_int32, [c_uint32, c_uint32, c_uint64, POINTER(c_void_p)]),
    "sessions_with_limits": (c_int32, [POINTER(SessionLimits), POINTER(c_void_p)]),
    "sessions_free": (None, [c_void_p]),
    "sessions_register": (c_int32, [*CLIENT, *DATA, c_uint64, POINTER(c_uint64)]),
    "sessions_begin": (
        c_int32,
        [*CLIENT, c_uint64, c_uint64, c_uint64, c_char_p, c_uint64, POINTER(c_void_p)],
    ),
    "sessions_record": (c_int32, [*CLIENT, c_uint64, c_uint64, c_int32, *DATA]),
    "sessions_peek": (c_int32, [*CLIENT, c_uint64, c_uint64, POINTER(c_void_p)]),
    "sessions_keep_alive": (c_int32, [*CLIENT, c_uint64, c_uint64]),
    "sessions_unregister": (c_int32, CLIENT),
    "sessions_expire": (c_int32, [c_void_p, c_uint64, POINTER(c_uint64)]),
    "sessions_stats": (c_int32, [c_void_p, POINTER(SessionStats)]),
    "sessions_snapshot": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "sessions_restore": (c_int32, [*DATA, POINTER(c_void_p)]),
    "sessions_save": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "sessions_load": (c_int32, [*DATA, POINTER(Slice), c_size_t, POINTER(c_void_p)]),
    "rows_count": (c_size_t, [c_void_p]),
    "rows_at": (c_int32, [c_void_p, c_size_t, POINTER(Slice), POINTER(Slice)]),
    "rows_free": (None, [c_void_p]),
    "sql": (c_int32, [c_char_p, c_char_p, c_char_p, POINTER(c_size_t)]),
}


class Api:
    """The library; functions without their prefix."""

    def __init__(self):
        library = ctypes.CDLL(LIBRARY)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, f"onceflight_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)


api = Api()


def header_macros():
    """ONCEFLIGHT_X → int, of all macros that are plain numbers."""
    found = re.findall(r"^#define ONCEFLIGHT_(\w+)\s+\(?(-?\d+)\)?", HEADER.read_text(), re.M)
    return {name: int(value) for name, value in found}


def header_functions():
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", HEADER.read_text(), flags=re.S)
    return set(re.findall(r"\bonceflight_(\w+)\s*\(", text))


def table(**settings):
    options = api.options_new()
    for name, value in settings.items():
        assert getattr(api, f"options_set_{name}")(options, value) == OK, name
    out = c_void_p()
    assert api.table_new(options, byref(out)) == OK
    api.options_free(options)
    return out.value


@contextlib.contextmanager
def a_table(**settings):
    made = table(**settings)
    try:
        yield made
    finally:
        api.table_free(made)


@contextlib.contextmanager
def a_queue():
    out = c_void_p()
    assert api.queue_new(byref(out)) == OK
    try:
        yield out.value
    finally:
        api.queue_free(out)


def request(key, timeout_ms=FOREVER, fingerprint=None, lease_ms=DEFAULT, ttl_ms=DEFAULT, flags=0):
    return Request(
        ctypes.sizeof(Request), key, len(key), fingerprint, len(fingerprint or b""), timeout_ms, lease_ms,
        ttl_ms, flags,
    )  # fmt: skip


class Outcome:
    """What a begin wrote; the response is read and freed."""

    def __init__(self, code, lead, response):
        self.code, self.lead = code, lead
        self.status = self.data = None
        if response:
            self.status, self.data = read(response)
            api.response_free(response)

    def __repr__(self):
        return f"Outcome(code={self.code}, lead={self.lead}, data={self.data!r})"


def read(response):
    data = ctypes.string_at(api.response_data(response), api.response_len(response))
    return api.response_status(response), data


def begin(table, key, timeout_ms=FOREVER):
    lead, response = c_uint64(7), c_void_p(7)  # rubbish, to see it cleared
    code = api.begin(table, key, len(key), timeout_ms, byref(lead), byref(response))
    return Outcome(code, lead.value, response.value)


def begin_request(table, key, **settings):
    lead, response = c_uint64(7), c_void_p(7)
    code = api.begin_request(table, byref(request(key, **settings)), byref(lead), byref(response))
    return Outcome(code, lead.value, response.value)


def begin_async(table, queue, tag, key, **settings):
    lead, response = c_uint64(7), c_void_p(7)
    wanted = request(key, **settings)
    code = api.begin_async(table, byref(wanted), queue, tag, byref(lead), byref(response))
    return Outcome(code, lead.value, response.value)


def next_event(queue, timeout_ms=PATIENCE * 1000):
    """(tag, Outcome), or None if none came."""
    event = Event(ctypes.sizeof(Event))
    code = api.queue_next(queue, timeout_ms, byref(event))
    if code == CODES["E_TIMEOUT"]:
        return None
    assert code == OK, code
    return event.tag, Outcome(event.outcome, event.lead, event.response)


def complete(table, lead, data=b"", status=0):
    return api.complete(table, lead, status, data, len(data))


def stats(table):
    found = Stats(ctypes.sizeof(Stats))
    assert api.table_stats(table, byref(found)) == OK
    return {name: getattr(found, name) for name in STATS}


def until(condition, what="the condition"):
    """For states that nothing signals, such as a thread having joined a line."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} never came true")
        time.sleep(0.001)


def until_waiting(table, count):
    until(lambda: stats(table)["waiting"] == count, f"{count} waiting")


class Thread(threading.Thread):
    """A thread whose result, or exception, is asked for."""

    def __init__(self, function, *arguments, **keywords):
        super().__init__(daemon=True)
        self._call = lambda: function(*arguments, **keywords)
        self._result = self._error = None
        self.start()

    def run(self):
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self):
        self.join(PATIENCE)
        if self.is_alive():
            raise AssertionError("the thread hangs")
        if self._error is not None:
            raise self._error
        return self._result


def in_child(function):
    """Forks, runs the function in the child, and gives what it returned (a short string)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = str(function())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        ready = Thread(pipe.read)
        try:
            answer = ready.result()
        except AssertionError:
            os.kill(pid, 9)
            raise
        finally:
            os.waitpid(pid, 0)
    return answer.decode()
