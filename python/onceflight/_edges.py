"""Waits that would never end: of ``run``, and of a ``begin`` with ``same_thread``.

The library finds such rings among threads blocked inside it. But a main thread that is to answer
Ctrl-C waits outside, in slices, where the library sees no wait. So the package keeps edges of its
own, for every thread alike: what each thread leads, and what it waits for.

Only a thread that leads while it waits can be part of a ring. So a lead costs its thread two steps
in a dict of its own, a thread that leads nothing waits without a look, and the others are entered
as waiting before they look, under one lock: of the threads that close a ring, the last one sees it.
A wait with a deadline ends, and is no edge; only waiting for oneself is refused even so, since
nothing could come of it.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from threading import get_ident
from typing import Dict, Iterator, Optional, Set, Tuple

from . import _native
from .errors import WouldDeadlock, error_for

Place = Tuple[int, bytes]  # a table's address and a key
Held = Dict[int, Place]  # by lead

_leaders: Dict[int, Held] = {}  # by the thread that will settle them; no thread without a lead
_waits: Dict[int, Place] = {}  # of threads that lead
_lock = threading.RLock()  # reentrant: a finalizer that runs inside may come back here


def lead(place: Place, number: int, thread: int) -> None:
    """The thread, which is the caller's, will settle the lead."""
    held = _leaders.get(thread)
    if held is None:
        held = _leaders[thread] = {}
    held[number] = place


def leads(thread: int) -> bool:
    """Whether it may be part of a ring."""
    return thread in _leaders


def settle(thread: int, number: int) -> None:
    held = _leaders.get(thread)
    if held is not None:
        held.pop(number, None)
        if not held:
            _leaders.pop(thread, None)
            if held:  # that thread has just led something, and this is another
                _leaders.setdefault(thread, {}).update(held)


@contextmanager
def waiting(place: Place, endless: bool) -> Iterator[None]:
    me = get_ident()
    held = _leaders.get(me)
    if not held:
        yield
        return
    if _leader(place) == me:
        raise error_for(WouldDeadlock.code, _native.describe(WouldDeadlock.code))
    if not endless:
        yield
        return
    with _lock:
        before = _waits.get(me)  # a signal handler may run a wait inside a wait
        _waits[me] = place
        if _closes_ring(me, place):
            _restore(me, before)
            raise error_for(WouldDeadlock.code, _native.describe(WouldDeadlock.code))
    try:
        yield
    finally:
        with _lock:
            _restore(me, before)


def _closes_ring(me: int, place: Place) -> bool:
    seen: Set[int] = set()
    leader = _leader(place)
    while leader is not None and leader != me and leader not in seen:
        seen.add(leader)
        onward = _waits.get(leader)  # one that doesn't wait will come to its end
        leader = _leader(onward) if onward is not None else None
    return leader == me


def _leader(place: Place) -> Optional[int]:
    """Of several, the last: lead ids grow with every leader of a key, and the others were overtaken.
    Looks through all leads, on behalf of the few threads that lead while they wait."""
    latest, leader = 0, None
    for thread, held in list(_leaders.items()):
        for number, led in list(held.items()):
            if led == place and number > latest:
                latest, leader = number, thread
    return leader


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
