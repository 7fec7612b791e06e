"""Waits that would never end: of ``run``, and of a ``begin`` with ``same_thread``.

The library finds such rings among threads blocked inside it. But a main thread that is to answer
Ctrl-C waits outside, in slices, where the library sees no wait. So the package keeps edges of its
own, for every thread alike: who leads which key, and who waits for which.

A leader is entered before its work starts and a wait before it is looked at, both under one lock:
of the threads that close a ring, the last one sees it. A wait with a deadline ends, and is no edge;
only waiting for oneself is refused even so, since nothing could come of it.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import Dict, Iterator, Optional, Set, Tuple

from . import _native
from .errors import WouldDeadlock, error_for

Place = Tuple[int, bytes]  # a table's address and a key

_leaders: Dict[Place, Tuple[int, int]] = {}  # the lead, and the thread that will settle it
_waits: Dict[int, Place] = {}
_lock = threading.RLock()  # reentrant: a finalizer that runs inside may come back here


def lead(place: Place, number: int) -> None:
    with _lock:
        _leaders[place] = number, threading.get_ident()


def settle(place: Place, number: int) -> None:
    """Before the library settles: from then on nobody waits for this thread's sake."""
    with _lock:
        if place in _leaders and _leaders[place][0] == number:  # not a successor's
            del _leaders[place]


@contextmanager
def waiting(place: Place, endless: bool) -> Iterator[None]:
    me = threading.get_ident()
    with _lock:
        before = _waits.get(me)  # a signal handler may run a wait inside a wait
        if endless:
            _waits[me] = place
        if _closes_ring(me, place) if endless else _leader(place) == me:
            _restore(me, before)
            raise error_for(WouldDeadlock.code, _native.describe(WouldDeadlock.code))
    try:
        yield
    finally:
        with _lock:
            _restore(me, before)


def _leader(place: Place) -> Optional[int]:
    return _leaders[place][1] if place in _leaders else None


def _closes_ring(me: int, place: Place) -> bool:
    seen: Set[int] = set()
    leader = _leader(place)
    while leader is not None and leader != me and leader not in seen:
        seen.add(leader)
        onward = _waits.get(leader)
        leader = _leader(onward) if onward is not None else None
    return leader == me


def _restore(me: int, before: Optional[Place]) -> None:
    if before is None:
        _waits.pop(me, None)
    else:
        _waits[me] = before


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it
    _leaders.clear()
    _waits.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
