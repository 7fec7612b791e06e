"""The C library: where it is found, what its functions take, and who frees what.

It is loaded twice. ``lib`` gives up the GIL for the length of a call; every call that may wait goes
through it. ``quick`` keeps the GIL, which saves a hand-over to other busy threads (up to a switch
interval, 5 ms); only calls that can't wait for anybody may go through it: a begin with timeout 0, a
settle, a free. A thread inside ``quick`` may at most meet the library's own short locks, whose
holders never need the GIL. Over a store any begin and any settle waits for the store: ``Core.calls``
is the one or the other.

``raw_begin`` and ``raw_complete`` are the cycle's two functions, through ``quick``'s loader, without
prototypes: ctypes then takes each argument as it stands, in half the time. See ``raw``.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import os
from ctypes import POINTER, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, ClassVar, Dict, List, Optional, Tuple, Type, TypeVar, Union

from .errors import OnceflightError, error_for

LEAD, SHARED, REPLAYED, PENDING, BYPASS = 1, 2, 3, 4, 5
E_TIMEOUT, E_STALE, E_BUFFER = -4, -5, -15
SAME_THREAD, RECOVER, IN_TURN = 1, 2, 4
FOREVER = 2**64 - 1
DEFAULT = 2**64 - 2

VERSION = (0, 1)  # the header's MAJOR, MINOR that these prototypes follow

Bytes = Union[bytes, bytearray, memoryview]
Key = Union[str, bytes, bytearray, memoryview]


class Request(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("key", c_char_p),
        ("key_len", c_size_t),
        ("fingerprint", c_char_p),
        ("fingerprint_len", c_size_t),
        ("timeout_ms", c_uint64),
        ("lease_ms", c_uint64),
        ("ttl_ms", c_uint64),
        ("flags", c_uint32),
    ]


class Event(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("tag", c_uint64),
        ("outcome", c_int32),
        ("lead", c_uint64),
        ("response", c_void_p),
    ]


class StatsStruct(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t)] + [
        (name, c_uint64)
        for name in (
            "leads", "shared", "replayed", "bypassed", "timeouts", "cancels", "promotions", "takeovers",
            "stale", "evictions", "in_flight", "waiting", "completed", "completed_bytes",
        )
    ]  # fmt: skip


class LeadInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("fence", c_uint64),
        ("attempt", c_uint32),
        ("checkpoint", c_void_p),
    ]


class SessionLimits(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t)] + [
        (name, c_uint64)
        for name in (
            "max_sessions", "window", "timeout_ms", "max_response_len", "max_session_bytes", "max_bytes",
        )
    ]  # fmt: skip


class SessionStatsStruct(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("sessions", c_uint64),
        ("response_bytes", c_uint64),
        ("now_ms", c_uint64),
    ]


class Slice(ctypes.Structure):
    _fields_ = [("data", c_char_p), ("len", c_size_t)]


class OutSlice(ctypes.Structure):
    """Bytes of the library's, which may have zeros in them."""

    _fields_ = [("data", c_void_p), ("len", c_size_t)]

    def copy(self) -> Optional[bytes]:
        return ctypes.string_at(self.data, self.len) if self.data else None


_OPTIONS = (
    "completed_ttl_ms", "lease_ms", "heartbeat", "max_lead_ms", "max_in_flight", "max_waiters",
    "max_completed", "max_completed_bytes", "max_key_len", "max_response_len", "on_cancel",
    "on_lease_expired", "offer_ms", "store_timeout_ms",
)  # fmt: skip

_BYTES = [c_char_p, c_size_t]
_BEGIN_OUT = [c_void_p, c_void_p]  # lead, response: addresses inside an Event
_PROTOTYPES: Dict[str, Tuple[Any, List[Any]]] = {
    "version_number": (c_uint32, []),
    "version_string": (c_char_p, []),
    "strerror": (c_char_p, [c_int32]),
    "err_name": (c_char_p, [c_int32]),
    "last_error": (c_int32, [c_char_p, POINTER(c_size_t)]),
    "options_new": (c_void_p, []),
    "options_free": (None, [c_void_p]),
    **{f"options_set_{name}": (c_int32, [c_void_p, c_uint64]) for name in _OPTIONS},
    "table_open": (c_int32, [c_char_p, c_void_p, POINTER(c_void_p)]),
    "table_close": (c_int32, [c_void_p]),
    "table_free": (None, [c_void_p]),
    "table_stats": (c_int32, [c_void_p, POINTER(StatsStruct)]),
    "begin_request": (c_int32, [c_void_p, POINTER(Request), *_BEGIN_OUT]),
    "complete": (c_int32, [c_void_p, c_uint64, c_int32, *_BYTES]),
    "complete_for": (c_int32, [c_void_p, c_uint64, c_int32, *_BYTES, c_uint64]),
    "cancel": (c_int32, [c_void_p, c_uint64]),
    "abandon": (c_int32, [c_void_p, c_uint64]),
    "decline": (c_int32, [c_void_p, c_uint64]),
    "cancel_with": (c_int32, [c_void_p, c_uint64, c_int32, *_BYTES]),
    "abandon_with": (c_int32, [c_void_p, c_uint64, c_int32, *_BYTES]),
    "renew": (c_int32, [c_void_p, c_uint64, c_uint64]),
    "checkpoint": (c_int32, [c_void_p, c_uint64, *_BYTES]),
    "lead_details": (c_int32, [c_void_p, c_uint64, POINTER(LeadInfo)]),
    "forget": (c_int32, [c_void_p, *_BYTES]),
    "response_status": (c_int32, [c_void_p]),
    "response_data": (c_void_p, [c_void_p]),
    "response_len": (c_size_t, [c_void_p]),
    "response_free": (None, [c_void_p]),
    "queue_new": (c_int32, [POINTER(c_void_p)]),
    "queue_fd": (c_int, [c_void_p]),
    "queue_next": (c_int32, [c_void_p, c_uint64, POINTER(Event)]),
    "queue_leave": (c_int32, [c_void_p, c_uint64]),
    "queue_free": (None, [c_void_p]),
    "begin_async": (c_int32, [c_void_p, POINTER(Request), c_void_p, c_uint64, *_BEGIN_OUT]),
    "request_key": (
        c_int32,
        [c_char_p, c_char_p, POINTER(Slice), c_size_t, *_BYTES, c_char_p, c_char_p],
    ),
    "fingerprint": (c_int32, [POINTER(Slice), c_size_t, c_char_p, c_char_p]),
    "sessions_with_limits": (c_int32, [POINTER(SessionLimits), POINTER(c_void_p)]),
    "sessions_restore": (c_int32, [*_BYTES, POINTER(c_void_p)]),
    "sessions_free": (None, [c_void_p]),
    "sessions_register": (c_int32, [c_void_p, *_BYTES, *_BYTES, c_uint64, POINTER(c_uint64)]),
    "sessions_begin": (
        c_int32,
        [c_void_p, *_BYTES, c_uint64, c_uint64, c_uint64, c_char_p, c_uint64, POINTER(c_void_p)],
    ),
    "sessions_record": (c_int32, [c_void_p, *_BYTES, c_uint64, c_uint64, c_int32, *_BYTES]),
    "sessions_peek": (c_int32, [c_void_p, *_BYTES, c_uint64, c_uint64, POINTER(c_void_p)]),
    "sessions_keep_alive": (c_int32, [c_void_p, *_BYTES, c_uint64, c_uint64]),
    "sessions_unregister": (c_int32, [c_void_p, *_BYTES]),
    "sessions_expire": (c_int32, [c_void_p, c_uint64, POINTER(c_uint64)]),
    "sessions_stats": (c_int32, [c_void_p, POINTER(SessionStatsStruct)]),
    "sessions_snapshot": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "sessions_save": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "sessions_load": (c_int32, [*_BYTES, POINTER(Slice), c_size_t, POINTER(c_void_p)]),
    "rows_count": (c_size_t, [c_void_p]),
    "rows_at": (c_int32, [c_void_p, c_size_t, POINTER(OutSlice), POINTER(OutSlice)]),
    "rows_free": (None, [c_void_p]),
    "sql": (c_int32, [c_char_p, c_char_p, c_char_p, POINTER(c_size_t)]),
}


def _find() -> str:
    """$ONCEFLIGHT_LIBRARY, then the copy inside the wheel, then the system's."""
    named = os.environ.get("ONCEFLIGHT_LIBRARY")
    if named:
        return named
    for name in ("libonceflight.so", "libonceflight.dylib"):
        packaged = Path(__file__).parent / "_lib" / name
        if packaged.exists():
            return str(packaged)
    found = ctypes.util.find_library("onceflight")
    if found:
        return found
    raise ImportError(
        "libonceflight was not found: install a wheel that carries it, install the library, "
        "or set ONCEFLIGHT_LIBRARY to the path of the shared object"
    )


class Functions:
    """The library's functions without their prefix, typed for ctypes."""

    def __init__(self, loader: Type[ctypes.CDLL], path: str) -> None:
        library = loader(path)
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(library, f"onceflight_{name}")
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


_path = _find()
lib = Functions(ctypes.CDLL, _path)
quick = Functions(ctypes.PyDLL, _path)


def raw(name: str, library: ctypes.CDLL) -> Any:
    """A function that ctypes hands its arguments unchecked, so the caller vouches for their types:
    ``bytes`` for a pointer to bytes, ``byref`` for any other pointer, a ctypes object for itself,
    and an ``int`` of at most ``LONGEST`` for any integer. ctypes passes that as a C int, and libffi
    fills the whole register with it; no function here has more arguments than there are registers.
    """
    return library[f"onceflight_{name}"]


LONGEST = 2**31 - 1
raw_begin = raw("begin", ctypes.PyDLL(_path))
raw_turn_done = raw("turn_done", ctypes.PyDLL(_path))
raw_complete = raw("complete", ctypes.PyDLL(_path))
raw_complete_and_wait = raw("complete", ctypes.CDLL(_path))  # over a store

version_number: int = lib.version_number()
if (version_number // 1_000_000, version_number // 1_000 % 1_000) != VERSION:
    raise ImportError(
        f"{_path} is onceflight {lib.version_string().decode()}; this package needs {VERSION[0]}.{VERSION[1]}"
    )


def failure(code: int) -> OnceflightError:
    """The exception of a code that a call on this thread has just returned, with its detail."""
    _, text = told(quick.last_error)
    return error_for(code, text or describe(code))


def told(call: Callable[..., int], *arguments: Any) -> Tuple[int, str]:
    """What a call writes into its last two arguments, a buffer and a size; and its code."""
    size = c_size_t(256)
    buffer = ctypes.create_string_buffer(size.value)
    while (code := call(*arguments, buffer, ctypes.byref(size))) == E_BUFFER:
        buffer = ctypes.create_string_buffer(size.value)
    return code, buffer.value.decode("utf-8", "replace")


def describe(code: int) -> str:
    text: bytes = quick.strerror(code)
    return text.decode()


def check(code: int) -> int:
    if code < 0:
        raise failure(code)
    return code


def in_memory(url: str) -> bool:
    return url == "memory:"


def to_key(key: Key) -> bytes:
    return key.encode() if isinstance(key, str) else bytes(key)


def to_ms(seconds: Optional[float], absent: int) -> int:
    """Milliseconds, rounded up: a wait is never shorter than asked for."""
    if seconds is None:
        return absent
    if not seconds >= 0:
        raise ValueError(f"a time can't be {seconds!r}")
    if math.isinf(seconds):
        return FOREVER
    return min(math.ceil(seconds * 1000), DEFAULT - 1)


Self = TypeVar("Self", bound="Handle")


class Handle:
    """Owns one pointer of the library and frees it once: by close, by with, or when collected."""

    _free: ClassVar[Any]
    _cell: Optional[c_void_p] = None

    def _adopt(self) -> Any:
        """Where the library shall write the pointer. The owner stands before the call that makes
        the thing, so no Ctrl-C can fall between the two and lose it."""
        self._cell = c_void_p()
        return ctypes.byref(self._cell)

    @property
    def _pointer(self) -> Optional[int]:
        return self._cell.value if self._cell else None

    def close(self) -> None:
        pointer = self._pointer
        if pointer and self._cell:
            self._cell.value = None
            self._free(pointer)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Core(Handle):
    """The library's table. Whatever was handed out keeps it: the memory goes with the last of them."""

    _free = lib.table_free

    def __init__(self, url: str, options: Optional[int]) -> None:
        self.calls = quick if in_memory(url) else lib
        """For a call that begins or settles, however short."""
        check(lib.table_open(url.encode(), options, self._adopt()))
        self.pointer = self._pointer
        # As raw functions take it.
        self.at: Any = ctypes.byref(ctypes.c_char.from_address(self.pointer or 0))

    def close(self) -> None:
        # Of a cycle that is collected, what was handed out may be finalized after this, and still
        # settle: it shall meet a NULL then.
        self.at = self.pointer = None
        super().close()


class SessionsHandle(Handle):
    """The library's table of sessions."""

    _free = lib.sessions_free


class ResponseHandle(Handle):
    """One response, read once."""

    _free = quick.response_free

    def read(self) -> Tuple[int, bytes]:
        response = self._pointer
        data = ctypes.string_at(quick.response_data(response), quick.response_len(response))
        return quick.response_status(response), data


class RowsHandle(Handle):
    """What a save has to say, read once."""

    _free = quick.rows_free

    def read(self) -> List[Tuple[Optional[bytes], Optional[bytes]]]:
        client, row = OutSlice(), OutSlice()
        rows = []
        for index in range(quick.rows_count(self._pointer)):
            check(quick.rows_at(self._pointer, index, ctypes.byref(client), ctypes.byref(row)))
            rows.append((client.copy(), row.copy()))
        return rows


class Queue(Handle):
    """An event queue; belongs to one thread or one event loop."""

    _free = lib.queue_free

    def __init__(self) -> None:
        check(quick.queue_new(self._adopt()))

    @property
    def fd(self) -> int:
        descriptor: int = quick.queue_fd(self._pointer)
        return descriptor

    def next(self, event: Event, timeout_ms: int) -> bool:
        """Fills in the next event; False if none came in time."""
        call = lib.queue_next if timeout_ms else quick.queue_next
        code = call(self._pointer, timeout_ms, ctypes.byref(event))
        if code == E_TIMEOUT:
            return False
        check(code)
        return True

    def leave(self, tag: int) -> None:
        quick.queue_leave(self._pointer, tag)
