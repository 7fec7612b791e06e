"""The table: for each key at most one caller does the work, and every other has its outcome."""

from __future__ import annotations

import ctypes
import json
import threading
import weakref
from collections import deque
from ctypes import byref
from types import TracebackType
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Type, TypeVar, cast

from . import _edges, _native
from ._native import (
    BYPASS,
    E_TIMEOUT,
    FOREVER,
    LEAD,
    LONGEST,
    REPLAYED,
    Bytes,
    Core,
    Key,
    Queue,
    check,
    in_memory,
    lib,
    quick,
    raw_begin,
    raw_complete,
    raw_complete_and_wait,
    raw_turn_done,
    to_key,
    to_ms,
)
from ._objects import Link, Objects, Outcome
from ._records import run_recorded
from ._request import make_request
from ._work import lead_sync
from .outcome import ASKED, SPARES, STARTED, Begun, Grant, Lead, Response

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Literal

    from ._records import Serializer
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


class Table:
    """A table in this process's memory, or over a store that processes share: ``sqlite:PATH``,
    ``postgres://…``, ``redis://…``, ``redis-cluster://…``, ``memcached://…``. Threads, event loops and
    keys share it freely.

    Times are seconds. ``completed_ttl`` is the window in which an outcome is replayed (default 0:
    only callers that came while the work was in flight share it; over a store a day); ``lease`` how
    long a leader may take before another may take over (default: for ever; over a store 30 s, renewed
    by a ``heartbeat`` while the process lives). What is not given is the library's default.

    ``serializer`` is what ``run`` writes its outcomes into a store with, by default ``json``. It has
    ``dumps`` and ``loads``, like ``pickle``: that one runs whatever the store holds, so take it only
    where nobody else can write to the store. In memory ``run`` shares the object itself.

    A call waits for a store ``store_timeout`` at most, with the GIL released.
    """

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
        store_timeout: Optional[float] = None,
        serializer: Serializer = json,
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
            "store_timeout_ms": _ms(store_timeout),
        }
        self._ttl_ms = settings["completed_ttl_ms"] or 0
        self._objects = Objects(MAX_COMPLETED if max_completed is None else max_completed)
        self._durable = not in_memory(url)
        self._complete = raw_complete_and_wait if self._durable else raw_complete
        self._serializer = serializer
        self._probes = 0
        self._probes_lock = threading.RLock()
        self._pumps: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pump] = weakref.WeakKeyDictionary()
        self._spares: deque[Grant] = deque(maxlen=SPARES)
        options = lib.options_new()
        try:
            for name, value in settings.items():
                if value is not None:
                    check(getattr(lib, f"options_set_{name}")(options, value))
            self._core = Core(url, options)
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
        serializer: Optional[Serializer] = None,
    ) -> T:
        """Calls fn, or waits for the caller that is calling it; all get the one object it returns.

        An Exception of fn is raised in everybody who waits, and not retained. A BaseException
        (KeyboardInterrupt, SystemExit) abandons: the next in line calls its own fn. A key that was
        settled with bytes, by ``begin`` and ``complete``, gives its Response. A flight declined to
        be shared: fn is called for this caller alone.

        Over a store all get what the ``serializer`` (None: the table's) reads from the bytes that it
        wrote, the leader too; what it can't write is a TypeError in all. In other processes an
        Exception of fn is a CalleeFailed. If the store doesn't take the outcome, Unrecorded has the
        value; so has Stale.
        """
        name = key if type(key) is bytes else to_key(key)
        if self._durable:
            asked = make_request(name, timeout, ttl, lease, fingerprint, _native.SAME_THREAD)
            return run_recorded(self, name, asked, fn, serializer or self._serializer)
        request: Optional[_native.Request] = None
        length = len(name)
        grant = self._take()
        if timeout is None and ttl is None and lease is None and fingerprint is None and length <= LONGEST:
            ttl_ms = self._ttl_ms
            code: int = raw_begin(self._core.at, name, length, 0, grant.lead_out, grant.response_out)
        else:
            request = make_request(name, timeout, ttl, lease, fingerprint, _native.SAME_THREAD)
            ttl_ms = self._ttl_ms if request.ttl_ms == _native.DEFAULT else request.ttl_ms
            code = self._probe(request, grant)
        if code == LEAD:
            return lead_sync(self, grant, name, ttl_ms, fn)
        if request is None:
            request = make_request(name, None, None, None, None, _native.SAME_THREAD)
        return self._follow(code, grant, request, name, ttl_ms, fn)

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
        if (
            timeout is None
            and ttl is None
            and lease is None
            and fingerprint is None
            and not recover
            and not same_thread
            and not self._durable
            and type(key) is bytes
            and (length := len(key)) <= LONGEST
        ):
            try:  # as _take does
                grant = self._spares.pop()
            except IndexError:
                grant = Grant(self._core)
            grant.state = ASKED
            code: int = raw_begin(self._core.at, key, length, 0, grant.lead_out, grant.response_out)
            if code == LEAD:  # as Grant.outcome does
                grant.state = STARTED
                lead = Lead()
                lead._table = self
                lead._grant = grant
                return lead
            if code == E_TIMEOUT:
                code = self._wait(make_request(key, None, None, None, None, 0), grant)
            return grant.outcome(self, check(code))
        flags = (_native.RECOVER if recover else 0) | (_native.SAME_THREAD if same_thread else 0)
        name = to_key(key)
        request = make_request(name, timeout, ttl, lease, fingerprint, flags)
        grant = self._take()
        grant.place = (id(self), name) if same_thread else None
        return grant.outcome(self, check(self._ask(request, grant)))

    def forget(self, key: Key) -> None:
        """Drops a completed response; a flight goes on for those who wait, and a new begin starts afresh."""
        name = to_key(key)
        self._objects.forget(name)
        check(self._core.calls.forget(self._core.pointer, name, len(name)))

    def stats(self) -> Stats:
        struct = _native.StatsStruct(ctypes.sizeof(_native.StatsStruct))
        check(quick.table_stats(self._core.pointer, byref(struct)))
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
        code = lib.table_close(self._core.pointer)
        self._objects.clear()
        check(code)

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _take(self) -> Grant:
        try:
            grant = self._spares.pop()
        except IndexError:
            grant = Grant(self._core)
        grant.state = ASKED
        return grant

    def _ask(self, request: _native.Request, grant: Grant) -> int:
        """Asks, and waits as long as the request says."""
        if self._durable and not (grant.place and _edges.leads(threading.get_ident())):
            return self._block(request, grant)  # each question is a turn of the store's
        code = self._probe(request, grant)
        if code == E_TIMEOUT and request.timeout_ms:
            code = self._wait(request, grant)
        return code

    def _probe(self, request: _native.Request, grant: Grant) -> int:
        """Leads at once, or replays at once, or says E_TIMEOUT."""
        timeout_ms = request.timeout_ms
        request.timeout_ms = 0
        code: int = self._core.calls.begin_request(
            self._core.pointer, byref(request), grant.lead_out, grant.response_out
        )
        request.timeout_ms = timeout_ms
        return code

    def _follow(
        self, code: int, grant: Grant, request: _native.Request, name: bytes, ttl_ms: int, fn: Callable[[], T]
    ) -> T:
        """The rest of a run whose probe did not lead."""
        objects, missed = self._objects, 0
        link: Optional[Link] = None
        outcome: Optional[Outcome] = None
        try:
            while True:
                if code == E_TIMEOUT and request.timeout_ms:
                    link = objects.enter(name)
                    grant.place = id(self), name
                    code = self._wait(request, grant)
                if check(code) == LEAD:
                    return lead_sync(self, grant, name, ttl_ms, fn)
                if code == BYPASS:
                    return fn()
                response = Response(grant, self._spares, code == REPLAYED)
                lead = objects.lead_of(response.data)
                if not lead:
                    return cast(T, response)
                outcome = objects.find(name, link, lead)
                if outcome is not None:
                    return cast(T, outcome.take())
                if lead == missed:
                    self.forget(name)  # evicted on this side only: see _objects
                missed = lead
                grant = self._take()
                code = self._probe(request, grant)
        finally:
            # An exception holds this frame, and would hold what others left for us.
            del outcome
            if link is not None:
                link = None
                objects.leave(name)

    def _wait(self, request: _native.Request, grant: Grant) -> int:
        """Waits where a probe found that there is something to wait for."""
        self._probed()
        if grant.place is None:
            return self._block(request, grant)
        with _edges.waiting(grant.place, request.timeout_ms == FOREVER):
            return self._block(request, grant)

    def _probed(self) -> None:
        """The last timeout was nobody's: stats takes it off again."""
        with self._probes_lock:
            self._probes += 1

    def _block(self, request: _native.Request, grant: Grant) -> int:
        """Waits in C. Of a crowd, woken all at once, each would fight the others for the GIL; so the library
        wakes the next one when the last one says that it has it."""
        if threading.get_ident() == threading.main_thread().ident:
            return self._in_slices(request, grant)
        request.flags |= _native.IN_TURN
        try:
            code: int = lib.begin_request(
                self._core.pointer, byref(request), grant.lead_out, grant.response_out
            )
            return code
        finally:
            raw_turn_done()

    def _in_slices(self, request: _native.Request, grant: Grant) -> int:
        """Only the main thread hears of Ctrl-C, and only between two calls into C: it waits in
        slices. A begin a slice would go to the back of the line each time; an event queue keeps
        the place. Should an exception end the wait, the queue's end gives it up, offers included."""
        with Queue() as queue:
            code: int = quick.begin_async(
                self._core.pointer, byref(request), queue._pointer, 1, grant.lead_out, grant.response_out
            )
            if code != _native.PENDING:
                return code
            while not queue.next(grant.event, SLICE_MS):
                pass
        outcome: int = grant.event.outcome  # the detail of an error is this thread's last
        return outcome


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
