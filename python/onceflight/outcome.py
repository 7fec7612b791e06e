"""What a begin gives: a Lead to settle, a Response to use, or BYPASS."""

from __future__ import annotations

import ctypes
from collections import deque
from ctypes import byref, c_ubyte, c_uint64
from sys import getrefcount
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Type, Union

from . import _edges, _native
from ._native import (
    E_STALE,
    LEAD,
    LONGEST,
    REPLAYED,
    SHARED,
    Bytes,
    Core,
    check,
    failure,
    quick,
)

if TYPE_CHECKING:
    from .table import Table

SPARES = 256  # the most that a table keeps

# What a grant may own: nothing; what a begin writes; a lead whose work somebody may have begun.
NOTHING, ASKED, STARTED = 0, 1, 2


def _alone() -> int:
    """What getrefcount says of an object that only one local variable holds."""
    thing = object()
    return getrefcount(thing)


# Threads may settle one lead at once, and the losers are told that it is stale. So a grant becomes a
# spare, and thereby another lead's, only if no other thread has it in hand.
ALONE = _alone()

_LEAD = _native.Event.lead.offset
_RESPONSE = _native.Event.response.offset


class Grant:
    """Owns whatever one begin hands out, from before the call.

    The library writes the lead and the response straight into it, so at no moment is either held by
    a bare number that Ctrl-C, raised between two bytecodes, could lose. Dropped, it passes the lead
    on and frees the response.

    Making one takes longer than the begin it is for, so what was used up goes to its table's spares.
    """

    __slots__ = ("core", "event", "lead", "lead_out", "response_out", "state", "place", "thread")

    def __init__(self, core: Core) -> None:
        self.state = NOTHING
        self.core = core
        self.event = _native.Event(ctypes.sizeof(_native.Event))
        self.lead = c_uint64.from_buffer(self.event, _LEAD)  # the event's, as raw functions take it
        self.lead_out = byref(self.event, _LEAD)
        self.response_out = byref(self.event, _RESPONSE)
        self.place: Optional[_edges.Place] = None  # where the thread that takes the lead will settle it
        self.thread = 0  # that thread

    def outcome(self, table: Table, code: int) -> Begun:
        if code == LEAD:
            self.state = STARTED
            self.lives()
            lead = Lead()
            lead._table, lead._grant = table, self
            return lead
        if code == SHARED or code == REPLAYED:
            return Response(self, table._spares, code == REPLAYED)
        self.spare(table._spares)
        return BYPASS

    def lives(self) -> None:
        if self.place is not None:
            self.thread = get_ident()
            _edges.lead(self.place, self.lead.value, self.thread)

    def settled(self) -> None:
        """The lead is nobody's any more."""
        if self.thread:
            _edges.settle(self.thread, self.lead.value)
            self.thread = 0
        self.place = None
        self.state = NOTHING

    def spare(self, spares: deque[Grant]) -> None:
        """Nobody holds it but the caller, who lets go."""
        self.drop()
        spares.append(self)

    def drop(self) -> None:
        if self.state == NOTHING:
            return
        event = self.event
        pointer, event.response = event.response, None
        if pointer:
            quick.response_free(pointer)
        if event.lead:  # one that is settled already is stale, and nothing happens
            calls = self.core.calls
            settle = calls.abandon if self.state == STARTED else calls.cancel
            settle(self.core.pointer, event.lead)
        self.settled()

    __del__ = drop


class Response:
    """One immutable response, shared by all who asked.

    ``view`` reads it where it lies, without a copy; ``data`` is a copy as bytes. Both stay valid as
    long as they are held.
    """

    __slots__ = ("_grant", "_spares", "_data", "replayed")

    def __init__(self, grant: Grant, spares: deque[Grant], replayed: bool) -> None:
        self._grant = grant
        self._spares = spares
        self._data: Optional[bytes] = None
        self.replayed = replayed
        """From the window, not from a flight that was joined."""

    def __del__(self) -> None:
        self._grant.spare(self._spares)

    @property
    def status(self) -> int:
        status: int = quick.response_status(self._grant.event.response)
        return status

    @property
    def view(self) -> memoryview:
        array = (c_ubyte * len(self)).from_address(quick.response_data(self._grant.event.response))
        array._owner = self  # type: ignore[attr-defined] # the view keeps the array, and so the response
        return memoryview(array).cast("B").toreadonly()

    @property
    def data(self) -> bytes:
        if self._data is None:
            self._data = ctypes.string_at(quick.response_data(self._grant.event.response), len(self))
        return self._data

    def __len__(self) -> int:
        length: int = quick.response_len(self._grant.event.response)
        return length

    def __bool__(self) -> bool:
        return True

    def __bytes__(self) -> bytes:
        return self.data

    def __repr__(self) -> str:
        role = "replayed" if self.replayed else "shared"
        return f"<Response {role} status={self.status} len={len(self)}>"


class LeadDetails(NamedTuple):
    fence: int
    """Grows with every leader of the key; a resource downstream can refuse a lower one."""
    attempt: int
    """1 for the first leader of a flight, one more for each successor."""
    checkpoint: Optional[bytes]
    """What a predecessor left."""


class Lead:
    """The right to settle one flight. Settle it once.

    As a context manager, leaving the block without having settled abandons, and so does dropping
    the lead: whoever is next in line leads then.
    """

    __slots__ = ("_table", "_grant")  # set by its maker: a constructor would take as long as the call
    _table: Table
    _grant: Optional[Grant]  # None: settled

    @property
    def settled(self) -> bool:
        return self._grant is None

    def complete(self, data: Bytes = b"", status: int = 0) -> None:
        """Gives the response to all who wait, and to the window after."""
        grant = self._grant
        if (
            grant is not None
            and type(data) is bytes
            and type(status) is int
            and (length := len(data)) <= LONGEST
        ):
            code: int = self._table._complete(grant.core.at, grant.lead, status, data, length)
            if code or grant.place is not None:
                self._settled(code)
            else:  # what _settled does, in a tenth of the time
                self._grant = None
                grant.state = NOTHING
                if getrefcount(grant) == ALONE:
                    self._table._spares.append(grant)
        else:
            data = bytes(data)
            self._settle("complete", status, data, len(data))

    def complete_for(self, ttl: float, data: Bytes = b"", status: int = 0) -> None:
        """The same, with a window of its own, in seconds; 0 shares and retains nothing."""
        data = bytes(data)
        self._settle("complete_for", status, data, len(data), _native.to_ms(ttl, 0))

    def cancel(self) -> None:
        """Nothing happened: the next in line leads, or the key is free again."""
        self._settle("cancel")

    def cancel_with(self, data: Bytes = b"", status: int = 0) -> None:
        """Nothing happened: those who wait in this process have this response, and it isn't kept."""
        data = bytes(data)
        self._settle("cancel_with", status, data, len(data))

    def abandon(self) -> None:
        """It may have happened: the next in line leads, or nobody may, as the table's policy says.

        A store that can't be told now is told later: StoreFailed, and the lead is over all the same."""
        self._settle("abandon")

    def abandon_with(self, data: Bytes = b"", status: int = 0) -> None:
        """It may have happened: those who wait in this process have this response, and it isn't kept.
        The next to begin leads, or nobody may."""
        data = bytes(data)
        self._settle("abandon_with", status, data, len(data))

    def decline(self) -> None:
        """Not to be shared: all who wait do their own work."""
        self._settle("decline")

    def renew(self, lease: Optional[float] = None) -> None:
        """Starts the lease again; None is the table's own length."""
        check(self._call("renew", _native.to_ms(lease, _native.DEFAULT)))

    def checkpoint(self, data: Bytes) -> None:
        """Leaves bytes for a successor."""
        data = bytes(data)
        check(self._call("checkpoint", data, len(data)))

    def details(self) -> LeadDetails:
        info = _native.LeadInfo(ctypes.sizeof(_native.LeadInfo))
        # The checkpoint is a response like any other: a grant owns and frees it.
        holder = self._table._take()
        check(self._call("lead_details", ctypes.byref(info)))
        holder.event.response = info.checkpoint
        left = Response(holder, self._table._spares, True).data if info.checkpoint else None
        return LeadDetails(info.fence, info.attempt, left)

    def _call(self, name: str, *arguments: Any) -> int:
        grant, core = self._grant, self._table._core
        number = grant.event.lead if grant is not None else 0  # 0: stale, says the library
        code: int = getattr(core.calls, name)(core.pointer, number, *arguments)
        return code

    def _settle(self, name: str, *arguments: Any) -> None:
        self._settled(self._call(name, *arguments))

    def _settled(self, code: int) -> None:
        grant = self._grant
        error = failure(code) if code else None
        if grant is not None and (code == 0 or code == E_STALE):  # else it is refused, and leads on
            self._grant = None
            grant.settled()
            if getrefcount(grant) == ALONE:
                self._table._spares.append(grant)
        if error is not None:
            raise error

    def __enter__(self) -> Lead:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        grant = self._grant
        if grant is not None:
            self._grant = None
            grant.drop()
            if getrefcount(grant) == ALONE:
                self._table._spares.append(grant)

    def __repr__(self) -> str:
        return f"<Lead {'settled' if self.settled else 'live'}>"


class Bypass:
    """The leader declined to share: do your own work, settle nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "BYPASS"


BYPASS = Bypass()

Begun = Union[Lead, Response, Bypass]
