"""How ``run`` works over a store, where an outcome must be bytes that another process can read.

A record of a run has status ``VALUE`` and what the serializer wrote, or ``FAILED`` and what is to be
told of fn's exception. The leader, too, gets its value as read back from the bytes: what a retry
would see tomorrow shows today. An exception is shared with those who wait and never retained; in the
leader's process it is the object itself, found beside the table (see ``_objects``), elsewhere a
CalleeFailed that describes it.
"""

from __future__ import annotations

import json
import traceback
from threading import get_ident
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, TypeVar, Union

from . import _edges, _native
from ._native import BYPASS, E_STALE, LEAD, REPLAYED, check, failure, lib
from ._objects import Link, Outcome
from .errors import CalleeFailed, Stale, Unrecorded
from .outcome import NOTHING, STARTED, Grant, Response

if TYPE_CHECKING:
    from typing_extensions import Protocol

    from .table import Table

    class Serializer(Protocol):
        """``json``, ``pickle``, or anything else that has these two."""

        def dumps(self, value: Any, /) -> Union[str, bytes]: ...

        def loads(self, data: bytes, /) -> Any: ...


T = TypeVar("T")

VALUE = 0
FAILED = int.from_bytes(b"fail", "big")  # a status that nobody else has
E_TOO_LARGE = -10
LONGEST_MESSAGE = 4096  # characters of an exception's text


def run_recorded(
    table: Table, name: bytes, request: _native.Request, fn: Callable[[], T], serializer: Serializer
) -> T:
    """``Table.run`` over a store."""
    link: Optional[Link] = table._objects.enter(name)
    try:
        grant = table._take()
        grant.place = id(table), name
        code = check(table._ask(request, grant))
        if code == LEAD:
            return _lead(table, grant, name, fn, serializer)
        if code == BYPASS:
            grant.spare(table._spares)
            return fn()
        value: T = read(table, name, Response(grant, table._spares, code == REPLAYED), link, serializer)
        return value
    finally:
        link = None
        table._objects.leave(name)


def _lead(table: Table, grant: Grant, name: bytes, fn: Callable[[], T], serializer: Serializer) -> T:
    grant.state = STARTED
    number, thread = grant.lead.value, get_ident()
    try:
        _edges.lead((id(table), name), number, thread)
        try:
            value, data = written(fn(), serializer)
        except Exception as error:
            record_failure(table, grant, name, error)
            raise
        record(grant, value, data)
        return value
    finally:
        _edges.settle(thread, number)
        if grant.state != NOTHING:
            grant.drop()
        grant.place = None
        table._spares.append(grant)


def written(value: T, serializer: Serializer) -> Tuple[T, bytes]:
    """A value as it will be read back, and its bytes."""
    try:
        text = serializer.dumps(value)
        data = text.encode() if isinstance(text, str) else bytes(text)
        return serializer.loads(data), data
    except Exception as error:
        raise TypeError(
            f"{_name(serializer)} can't keep a {type(value).__name__} in a store: {error}. Return what it "
            "can write, or give run, dedupe or the Table another serializer: anything with dumps and loads, "
            "such as pickle if nobody else can write to the store"
        ) from error


def record(grant: Grant, value: Any, data: bytes) -> None:
    """Completes with the bytes of a value. What is too large is declined, so that those who wait do
    their own work instead of waiting for it again."""
    at, number = grant.core.pointer, grant.event.lead
    code = lib.complete(at, number, VALUE, data, len(data))
    if code == E_TOO_LARGE:
        code = lib.decline(at, number)
    if code in (0, E_STALE):
        grant.state = NOTHING
    if code:
        refused = failure(code)
        if isinstance(refused, Stale):
            refused.value = value
            raise refused
        raise Unrecorded(str(refused), value) from refused


def record_failure(table: Table, grant: Grant, name: bytes, error: BaseException) -> None:
    """Whatever becomes of the flight, the caller gets the callee's exception."""
    objects, number = table._objects, grant.event.lead
    outcome = Outcome(number, None, error)
    kind = type(error)
    told = {
        "note": objects.publish(outcome).hex(),
        "kind": f"{kind.__module__}.{kind.__qualname__}",
        "text": "".join(traceback.format_exception_only(kind, error)).strip()[:LONGEST_MESSAGE],
    }
    data = json.dumps(told).encode()
    try:
        if lib.complete_for(grant.core.pointer, number, FAILED, data, len(data), 0) in (0, E_STALE):
            grant.state = NOTHING
    finally:
        objects.settled(name, outcome, 0)


def read(table: Table, name: bytes, response: Response, link: Optional[Link], serializer: Serializer) -> Any:
    """What a run gives who did not lead it. What isn't a run's is a Response."""
    if response.status == VALUE:
        try:
            return serializer.loads(response.data)
        except Exception as error:
            raise ValueError(
                f"{_name(serializer)} can't read the response of {name!r}: {error}. Was it completed with "
                "another serializer, or by begin and complete?"
            ) from error
    if response.status != FAILED:
        return response
    told = json.loads(response.data)
    lead = table._objects.lead_of(bytes.fromhex(told["note"]))
    outcome = table._objects.find(name, link, lead)
    try:
        if outcome is not None:
            return outcome.take()
        raise CalleeFailed(told["text"], told["kind"])
    finally:
        del outcome, link  # the exception's trace holds this frame


def _name(serializer: Serializer) -> str:
    return getattr(serializer, "__name__", None) or type(serializer).__name__
