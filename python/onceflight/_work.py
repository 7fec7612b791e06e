"""The lead of one ``run``, from the call of fn to the settlement; the same for threads and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Tuple

from . import _native
from ._objects import Seat
from .errors import OnceflightError, Stale
from .outcome import Lead, Response

if TYPE_CHECKING:
    from .table import Table


class Work:
    def __init__(self, table: Table, lead: Lead, key: bytes, seat: Seat, ttl_ms: int) -> None:
        self._table = table
        self._lead = lead
        self._key = key
        self._seat = seat
        self._ttl = (table._ttl_ms if ttl_ms == _native.DEFAULT else ttl_ms) / 1000
        self._forgets = table._objects.forgets(seat)

    def done(self, value: Any) -> None:
        try:
            self._settle(value, None, self._ttl)
        except Stale as stale:
            stale.value = value
            raise

    def failed(self, error: BaseException) -> None:
        try:
            self._settle(None, error, 0)
        except OnceflightError:
            pass  # the caller gets the callee's exception, whatever became of the flight

    def end(self) -> None:
        """Abandons what isn't settled."""
        self._lead.__exit__(None, None, None)

    def _settle(self, value: Any, error: Optional[BaseException], ttl: float) -> None:
        objects, lead = self._table._objects, self._lead
        number = lead._grant.event.lead
        response = objects.publish(self._key, self._seat, number, self._forgets, value, error)
        retained = 0.0
        try:
            if error is None:
                lead.complete(response)
            else:
                lead.complete_for(0, response)
            retained = ttl
        finally:
            objects.settled(self._key, number, retained)


def received(table: Table, response: Response, key: bytes, seat: Seat) -> Tuple[bool, Any]:
    """What a response of somebody's run stands for: found, and the object. Raises the leader's exception."""
    data = response.data
    if not table._objects.lead_of(data):
        return True, response
    outcome = table._objects.find(key, seat, data)
    if outcome is None:
        table.forget(key)  # evicted on this side only: see _objects
        return False, None
    try:
        return True, outcome.take()
    finally:
        del outcome, seat  # an exception holds this frame: a cycle otherwise
