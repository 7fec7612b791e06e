"""The table: for each key at most one caller does the work, and every other has its outcome."""

from __future__ import annotations

import ctypes
import threading
import weakref
from contextlib import nullcontext
from ctypes import byref
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NamedTuple, Optional, TypeVar, cast

from . import _edges, _native
from ._native import FOREVER, Bytes, Handle, Key, Queue, check, lib, quick, to_key, to_ms
from ._objects import Objects
from ._request import event_outcome, make_request
from ._work import Work, received
from .outcome import Begun, Bypass, Grant, Lead

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Literal

    from .aio import AsyncTable, Pump

T = TypeVar("T")

SLICE_MS = 50  # the longest a Ctrl-C waits for the main thread to come back from C
MAX_COMPLETED = 1 << 20  # the library's own default


class Stats(NamedTuple):
    leads: int
    shared: int
    replayed: int
    bypassed: int
    timeouts: int
    cancels: int
    promotions: int
    takeovers: int
    stale: int
    evictions: int
    in_flight: int
    waiting: int
    completed: int
    completed_bytes: int


class Table(Handle):
    """A table in this process's memory. Threads, event loops and keys share it freely.

    Times are seconds. ``completed_ttl`` is the window in which an outcome is replayed (default 0:
    only callers that came while the work was in flight share it); ``lease`` how long a leader may
    take before another may take over (default: for ever). What is not given is the library's default.
    """

    _free: ClassVar[Any] = lib.table_free

    def __init__(
        self,
        url: str = "memory:",
        *,
        completed_ttl: Optional[float] = None,
        lease: Optional[float] = None,
        heartbeat: Optional[bool] = None,
        max_lead: Optional[float] = None,
        max_in_flight: Optional[int] = None,
        max_waiters: Optional[int] = None,
        max_completed: Optional[int] = None,
        max_completed_bytes: Optional[int] = None,
        max_key_len: Optional[int] = None,
        max_response_len: Optional[int] = None,
        on_cancel: Optional[Literal["promote", "fail_all"]] = None,
        on_lease_expired: Optional[Literal["take_over", "hold"]] = None,
        offer: Optional[float] = None,
    ) -> None:
        settings = {
            "completed_ttl_ms": _ms(completed_ttl),
            "lease_ms": _ms(lease),
            "heartbeat": None if heartbeat is None else int(heartbeat),
            "max_lead_ms": _ms(max_lead),
            "max_in_flight": _count(max_in_flight),
            "max_waiters": _count(max_waiters),
            "max_completed": _count(max_completed),
            "max_completed_bytes": _count(max_completed_bytes),
            "max_key_len": _count(max_key_len),
            "max_response_len": _count(max_response_len),
            "on_cancel": _choice(on_cancel, "promote", "fail_all"),
            "on_lease_expired": _choice(on_lease_expired, "take_over", "hold"),
            "offer_ms": _ms(offer),
        }
        self._ttl_ms = settings["completed_ttl_ms"] or 0
        self._objects = Objects(MAX_COMPLETED if max_completed is None else max_completed)
        self._probes = 0
        self._probes_lock = threading.RLock()
        self._pumps: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pump] = weakref.WeakKeyDictionary()
        options = lib.options_new()
        try:
            for name, value in settings.items():
                if value is not None:
                    check(getattr(lib, f"options_set_{name}")(options, value))
            check(lib.table_open(url.encode(), options, self._adopt()))
        finally:
            lib.options_free(options)

    def run(
        self,
        key: Key,
        fn: Callable[[], T],
        *,
        timeout: Optional[float] = None,
        ttl: Optional[float] = None,
        lease: Optional[float] = None,
        fingerprint: Optional[Bytes] = None,
    ) -> T:
        """Calls fn, or waits for the caller that is calling it; all get the one object it returns.

        An Exception of fn is raised in everybody who waits, and not retained. A BaseException
        (KeyboardInterrupt, SystemExit) abandons: the next in line calls its own fn. A key that was
        settled with bytes, by ``begin`` and ``complete``, gives its Response. A flight declined to
        be shared: fn is called for this caller alone.
        """
        name = to_key(key)
        request = make_request(name, timeout, ttl, lease, fingerprint, _native.SAME_THREAD)
        seat = self._objects.enter(name)
        begun: Optional[Begun] = None
        try:
            while True:
                begun = self._begin(request, (id(self), name))
                if isinstance(begun, Lead):
                    return _call(Work(self, begun, name, seat, request.ttl_ms), fn)
                if isinstance(begun, Bypass):
                    return fn()
                found, value = received(self, begun, name, seat)
                if found:
                    return cast(T, value)
        finally:
            del seat, begun  # an exception holds this frame, and would hold what others left for us

    def begin(
        self,
        key: Key,
        *,
        timeout: Optional[float] = None,
        ttl: Optional[float] = None,
        lease: Optional[float] = None,
        fingerprint: Optional[Bytes] = None,
        recover: bool = False,
        same_thread: bool = False,
    ) -> Begun:
        """A Lead (do the work and settle it), a Response, or BYPASS (do your own work).

        ``timeout`` None waits as long as it takes, 0 not at all. A key left unknown by the policy
        "hold" is led again only with ``recover``. ``same_thread`` promises to settle a lead on this
        thread, so that a wait that would never end is found: WouldDeadlock.
        """
        flags = (_native.RECOVER if recover else 0) | (_native.SAME_THREAD if same_thread else 0)
        name = to_key(key)
        request = make_request(name, timeout, ttl, lease, fingerprint, flags)
        return self._begin(request, (id(self), name) if same_thread else None)

    def forget(self, key: Key) -> None:
        """Drops a completed response; a flight goes on for those who wait, and a new begin starts afresh."""
        name = to_key(key)
        self._objects.forget(name)
        check(quick.forget(self._pointer, name, len(name)))

    def stats(self) -> Stats:
        struct = _native.StatsStruct(ctypes.sizeof(_native.StatsStruct))
        check(quick.table_stats(self._pointer, byref(struct)))
        stats = Stats(*(getattr(struct, name) for name in Stats._fields))
        return stats._replace(timeouts=stats.timeouts - self._probes)

    @property
    def aio(self) -> AsyncTable:
        """The same table for asyncio."""
        from .aio import AsyncTable  # aio imports this module

        return AsyncTable(self)

    def close(self) -> None:
        """Refuses new begins and wakes every waiter with Closed. Leads still settle.

        The memory goes with the last reference, so that closing is safe beside any other call.
        """
        if self._pointer:
            code = lib.table_close(self._pointer)
            self._objects.clear()
            check(code)

    def __del__(self) -> None:
        super().close()

    def _begin(self, request: _native.Request, place: Optional[_edges.Place]) -> Begun:
        """Leads at once, or replays at once, or waits. SAME_THREAD requests bring their place."""
        grant = Grant(self, place)
        timeout_ms = request.timeout_ms
        try:
            request.timeout_ms = 0
            code = quick.begin_request(self._pointer, byref(request), *grant.out())
        finally:
            request.timeout_ms = timeout_ms
        if code == _native.E_TIMEOUT and timeout_ms:
            with self._probes_lock:
                self._probes += 1  # nobody's timeout: stats takes it off again
            with nullcontext() if place is None else _edges.waiting(place, timeout_ms == FOREVER):
                code = self._wait(request, grant)
        return grant.outcome(check(code))

    def _wait(self, request: _native.Request, grant: Grant) -> int:
        if threading.current_thread() is not threading.main_thread():
            code: int = lib.begin_request(self._pointer, byref(request), *grant.out())
            return code
        # Only the main thread hears of Ctrl-C, and only between two calls into C: it waits in
        # slices. A begin a slice would go to the back of the line each time; an event queue keeps
        # the place. Should an exception end the wait, the queue's end gives it up, offers included.
        with Queue() as queue:
            code = quick.begin_async(self._pointer, byref(request), queue._pointer, 1, *grant.out())
            if code != _native.PENDING:
                return code
            while not queue.next(grant.event, SLICE_MS):
                pass
        return event_outcome(grant.event)


def _call(work: Work, fn: Callable[[], T]) -> T:
    try:
        try:
            value = fn()
        except Exception as error:
            work.failed(error)
            raise
        work.done(value)
        return value
    finally:
        work.end()
        del work  # see run


def _ms(seconds: Optional[float]) -> Optional[int]:
    return None if seconds is None else to_ms(seconds, 0)


def _count(number: Optional[int]) -> Optional[int]:
    if number is not None and not 0 <= number < 2**64:
        raise ValueError(f"a limit can't be {number}")
    return number


def _choice(value: Optional[str], *values: str) -> Optional[int]:
    if value is None:
        return None
    if value not in values:
        raise ValueError(f"not {value!r} but one of {', '.join(values)}")
    return values.index(value)
