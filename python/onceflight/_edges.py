"""Waits that would never end: of ``run``, and of a ``begin`` with ``same_thread``.

The library finds such rings among threads blocked inside it. But a main thread that is to answer
Ctrl-C waits outside, in slices, where the library sees no wait. So the package keeps edges of its
own, for every thread alike: what each thread leads, and what it waits for.

Only a thread that leads while it waits can be part of a ring. So a lead costs its thread two steps
in a dict of its own, a thread that leads nothing waits without a look, and the others are entered
as waiting before they look, under one lock: of the threads that close a ring, the last one sees it.
A wait with a deadline ends, and is no edge; only waiting for oneself is refused even so, since
nothing could come of it.

A thread that has its response stands here until it has the GIL too. Meanwhile another may lead that
key anew; so a new lead makes those who wait for its key *doubtful*. A ring through one of them is
refused only if it is still there after a while. (Where the lead was passed on to one of them, the
others wait on, and their rings are told that much later.)

Leads are known by their keys: one that was overtaken or forgotten, and isn't settled yet, still
counts as its key's leader, unless a successor is entered too.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from enum import Enum
from threading import get_ident
from typing import Dict, Iterator, Optional, Set, Tuple

from . import _native
from .errors import WouldDeadlock

Place = Tuple[int, bytes]  # a table's address and a key
Held = Dict[int, Place]  # by lead

DOUBT = 1.0  # seconds; a thread that was told is gone long before
LOOKS = 10  # meanwhile: each takes the GIL, so one that was told has had it by the last

_leaders: Dict[int, Held] = {}  # by the thread that will settle them; no thread without a lead
_waits: Dict[int, Wait] = {}  # of threads that lead
# A wait is. Its lock is reentrant: a finalizer that runs inside may come back here.
_gone = threading.Condition()


class Wait:
    __slots__ = ("place", "doubtful")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.doubtful = False


class Ring(Enum):
    NONE = 0
    DOUBTFUL = 1
    CERTAIN = 2


def lead(place: Place, number: int, thread: int) -> None:
    """The thread, which is the caller's, will settle the lead."""
    held = _leaders.get(thread)
    if held is None:
        held = _leaders[thread] = {}
    held[number] = place
    if _waits:
        with _gone:
            for wait in _waits.values():
                wait.doubtful |= wait.place == place


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
        raise _would_deadlock()
    if not endless:
        yield
        return
    before = _waits.get(me)  # a signal handler may run a wait inside a wait
    try:
        with _gone:
            _waits[me] = Wait(place)
            for _ in range(LOOKS):
                if _gone.wait_for(lambda: _ring(me, place) is not Ring.DOUBTFUL, DOUBT / LOOKS):
                    break
            if _ring(me, place) is not Ring.NONE:
                _restore(me, before)  # before another looks, who would see the ring too
                raise _would_deadlock()
        yield
    finally:
        with _gone:
            _restore(me, before)


def _would_deadlock() -> WouldDeadlock:
    return WouldDeadlock(_native.describe(WouldDeadlock.code))


def _ring(me: int, place: Place) -> Ring:
    """What waiting for that place would close."""
    seen: Set[int] = set()
    ring = Ring.CERTAIN
    leader = _leader(place)
    while leader is not None and leader != me and leader not in seen:
        seen.add(leader)
        onward = _waits.get(leader)
        if onward is None:  # one that doesn't wait will come to its end
            return Ring.NONE
        if onward.doubtful:
            ring = Ring.DOUBTFUL
        leader = _leader(onward.place)
    return ring if leader == me else Ring.NONE


def _leader(place: Place) -> Optional[int]:
    """Of several, the last: lead ids grow with every leader of a key, and the others were overtaken.
    Looks through all leads, on behalf of the few threads that lead while they wait."""
    latest, leader = 0, None
    for thread, held in list(_leaders.items()):
        for number, led in list(held.items()):
            if led == place and number > latest:
                latest, leader = number, thread
    return leader


def _restore(me: int, before: Optional[Wait]) -> None:
    if before is None:
        _waits.pop(me, None)
    else:
        _waits[me] = before
    _gone.notify_all()


def _after_fork() -> None:
    global _gone
    _gone = threading.Condition()  # another thread may have held its lock
    _leaders.clear()
    _waits.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
