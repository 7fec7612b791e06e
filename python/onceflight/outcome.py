"""What a begin gives: a Lead to settle, a Response to use, or BYPASS."""

from __future__ import annotations

import ctypes
from ctypes import c_ubyte
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Type, Union

from . import _edges, _native
from ._native import Bytes, check, quick

if TYPE_CHECKING:
    from .table import Table


class Grant:
    """Owns whatever one begin hands out, from before the call.

    The library writes the lead and the response straight into it, so at no moment is either held by
    a bare number that Ctrl-C, raised between two bytecodes, could lose. Dropped unused, it passes
    the lead on and frees the response.
    """

    __slots__ = ("table", "place", "event", "started", "__weakref__")

    def __init__(self, table: Table, place: Optional[_edges.Place] = None) -> None:
        self.table = table
        self.place = place  # given where the lead will be settled by the thread that took it
        self.event = _native.Event(ctypes.sizeof(_native.Event))
        self.started = False  # somebody may have begun the work

    def out(self) -> Any:
        """The two out-parameters of begin."""
        event = self.event
        return (
            ctypes.byref(event, _native.Event.lead.offset),
            ctypes.byref(event, _native.Event.response.offset),
        )

    def outcome(self, code: int) -> Begun:
        if code == _native.LEAD:
            return Lead(self)
        if code in (_native.SHARED, _native.REPLAYED):
            return Response(self, code == _native.REPLAYED)
        return BYPASS

    def settle(self, function: Any, *arguments: Any) -> int:
        if self.place is not None:
            _edges.settle(self.place, self.event.lead)
        code: int = function(self.table._pointer, self.event.lead, *arguments)
        return code

    def drop(self) -> None:
        event = self.event
        if event.lead:
            settle = quick.abandon if self.started else quick.cancel
            self.settle(settle)
            event.lead = 0
        if event.response:
            pointer, event.response = event.response, None
            quick.response_free(pointer)

    __del__ = drop


class Response:
    """One immutable response, shared by all who asked.

    ``view`` reads it where it lies, without a copy; ``data`` is a copy as bytes. Both stay valid as
    long as they are held.
    """

    __slots__ = ("_grant", "_data", "replayed")

    def __init__(self, grant: Grant, replayed: bool) -> None:
        self._grant = grant
        self._data: Optional[bytes] = None
        self.replayed = replayed
        """From the window, not from a flight that was joined."""

    @property
    def status(self) -> int:
        status: int = quick.response_status(self._grant.event.response)
        return status

    @property
    def view(self) -> memoryview:
        response = self._grant.event.response
        array = (c_ubyte * len(self)).from_address(quick.response_data(response))
        array._owner = self._grant  # type: ignore[attr-defined] # the view keeps the array, and so the response
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

    __slots__ = ("_grant",)

    def __init__(self, grant: Grant) -> None:
        grant.started = True
        self._grant = grant
        self._lives()

    @property
    def settled(self) -> bool:
        return not self._grant.event.lead

    def complete(self, data: Bytes = b"", status: int = 0) -> None:
        """Gives the response to all who wait, and to the window after."""
        data = bytes(data)
        self._settle(quick.complete, status, data, len(data))

    def complete_for(self, ttl: float, data: Bytes = b"", status: int = 0) -> None:
        """The same, with a window of its own, in seconds; 0 shares and retains nothing."""
        data = bytes(data)
        self._settle(quick.complete_for, status, data, len(data), _native.to_ms(ttl, 0))

    def cancel(self) -> None:
        """Nothing happened: the next in line leads, or the key is free again."""
        self._settle(quick.cancel)

    def abandon(self) -> None:
        """It may have happened: the next in line leads, or nobody may, as the table's policy says."""
        self._settle(quick.abandon)

    def decline(self) -> None:
        """Not to be shared: all who wait do their own work."""
        self._settle(quick.decline)

    def renew(self, lease: Optional[float] = None) -> None:
        """Starts the lease again; None is the table's own length."""
        self._call(quick.renew, _native.to_ms(lease, _native.DEFAULT))

    def checkpoint(self, data: Bytes) -> None:
        """Leaves bytes for a successor."""
        data = bytes(data)
        self._call(quick.checkpoint, data, len(data))

    def details(self) -> LeadDetails:
        info = _native.LeadInfo(ctypes.sizeof(_native.LeadInfo))
        # The checkpoint is a response like any other: a grant owns and frees it.
        holder = Grant(self._grant.table)
        self._call(quick.lead_details, ctypes.byref(info))
        holder.event.response = info.checkpoint
        left = Response(holder, True).data if info.checkpoint else None
        return LeadDetails(info.fence, info.attempt, left)

    def _call(self, function: Any, *arguments: Any) -> None:
        check(function(self._grant.table._pointer, self._grant.event.lead, *arguments))

    def _settle(self, function: Any, *arguments: Any) -> None:
        code = self._grant.settle(function, *arguments)
        if code == 0 or code == _native.E_STALE:
            self._grant.event.lead = 0
        else:
            self._lives()  # a refusal for any other reason leaves the lead live
        check(code)

    def _lives(self) -> None:
        if self._grant.place is not None:
            _edges.lead(self._grant.place, self._grant.event.lead)

    def __enter__(self) -> Lead:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._grant.drop()

    def __repr__(self) -> str:
        return f"<Lead {'settled' if self.settled else 'live'}>"


class Bypass:
    """The leader declined to share: do your own work, settle nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "BYPASS"


BYPASS = Bypass()

Begun = Union[Lead, Response, Bypass]
