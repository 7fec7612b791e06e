"""The lead of one ``run``, from the call of fn to the settlement; the same for threads and tasks."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from . import _edges
from ._native import E_STALE, failure, quick
from ._objects import Outcome
from .errors import OnceflightError
from .outcome import NOTHING, STARTED, Grant

if TYPE_CHECKING:
    from .table import Table

T = TypeVar("T")

NOTE = 16  # bytes: the response of a run


def lead_sync(table: Table, grant: Grant, key: bytes, ttl_ms: int, fn: Callable[[], T]) -> T:
    """Calls fn with a lead in hand, which this thread settles."""
    grant.state = STARTED
    number, thread = grant.lead.value, get_ident()
    try:
        _edges.lead((id(table), key), number, thread)
        if ttl_ms:
            table._objects.attach(key, number)
        try:
            value = fn()
        except Exception as error:
            failed(table, grant, key, number, error)
            raise
        done(table, grant, key, number, ttl_ms, value)
        return value
    finally:
        _edges.settle(thread, number)
        if ttl_ms:
            table._objects.detach(key, number)
        if grant.state != NOTHING:
            grant.drop()
        grant.place = None
        table._spares.append(grant)


def done(table: Table, grant: Grant, key: bytes, number: int, ttl_ms: int, value: Any) -> None:
    objects, retained = table._objects, 0.0
    outcome = Outcome(number, value, None)
    note = objects.publish(outcome)
    try:
        code = table._complete(grant.core.at, grant.lead, 0, note, NOTE)
        if code:
            raise _refused(code, grant, value)
        grant.state = NOTHING
        if ttl_ms and objects.detach(key, number):
            retained = ttl_ms / 1000
    finally:
        objects.settled(key, outcome, retained)


def failed(table: Table, grant: Grant, key: bytes, number: int, error: BaseException) -> None:
    """Whatever becomes of the flight, the caller gets the callee's exception."""
    objects = table._objects
    outcome = Outcome(number, None, error)
    note = objects.publish(outcome)
    try:
        if quick.complete_for(grant.core.pointer, number, 0, note, NOTE, 0) in (0, E_STALE):
            grant.state = NOTHING
    finally:
        objects.settled(key, outcome, 0)


def _refused(code: int, grant: Grant, value: Any) -> OnceflightError:
    error = failure(code)
    if code == E_STALE:
        grant.state = NOTHING
        error.value = value  # type: ignore[attr-defined]
    return error
