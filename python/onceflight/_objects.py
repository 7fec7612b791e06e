"""How ``run`` shares live Python objects over a table that holds bytes.

The response of a run holds no object, only the id of the lead that made it (lead ids never repeat in
a process, and grow with every leader of a key). The object stands here, beside the table, and must
live as long as somebody can still be handed that id, and no longer. The library calls nobody back
when a record goes, so lifetimes follow from two facts instead:

* A caller enters before it begins. So what it may be handed was either kept for the window when it
  entered, or settled since. The outcomes of a key form a chain, oldest first, each link holding the
  next; a caller holds the link that was last when it entered, and with it all that is settled since.
  When the last holder of a link leaves, reference counting frees it. Nothing is counted or swept.
* Only completed records outlive their callers. Their outcomes are kept for the same ttl, which ends
  after the library's (it starts later), and by the same limit on entries. A new leader of a key
  proves that the older record is gone, and so does forget. A timer gives the rest back, look-up or
  not. If the library and this side ever evict different keys, the caller that is handed an id
  without an object forgets the key and begins again.
"""

from __future__ import annotations

import heapq
import os
import struct
import threading
import time
import weakref
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

INFINITE = float("inf")
REAP_PAUSE = 0.05  # seconds between two reaps at the least, so that short windows don't spin a thread


class Outcome:
    """What one run came to."""

    __slots__ = ("lead", "value", "error", "trace", "deadline")

    def __init__(self, lead: int, value: Any, error: Optional[BaseException]) -> None:
        self.lead = lead
        self.value = value
        self.error = error
        self.trace = error.__traceback__ if error is not None else None
        self.deadline = INFINITE

    def take(self) -> Any:
        if self.error is None:
            return self.value
        try:
            # All followers raise the one object, each from the leader's trace: a raise lengthens it.
            raise self.error.with_traceback(self.trace)
        finally:
            del self  # the trace holds this frame: a cycle otherwise


class Link:
    """Where the next outcome of a key will stand; from then on followed by another."""

    __slots__ = ("outcome", "next", "forgets", "__weakref__")

    def __init__(self) -> None:
        self.outcome: Optional[Outcome] = None
        self.next: Optional[Link] = None
        self.forgets = 0  # how often the key was forgotten while this chain has stood


class Seat(NamedTuple):
    """All that a caller may be handed: what was kept when it entered, and what is settled since."""

    kept: Optional[Outcome]
    link: Link


class Objects:
    """The objects of one table."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._format = struct.Struct("<8sQ")
        self._mark = os.urandom(8)  # tells our responses from bytes that others completed with
        self._links: weakref.WeakValueDictionary[bytes, Link] = weakref.WeakValueDictionary()
        self._kept: Dict[bytes, Outcome] = {}
        self._due: List[Tuple[float, int, bytes]] = []  # a heap; entries of the replaced stay in until due
        self._start_over()
        _all.add(self)

    def _start_over(self) -> None:
        # Reentrant: a collection may start inside, and run a finalizer that comes back here.
        self._lock = threading.RLock()
        self._timer: Optional[threading.Timer] = None
        self._timer_due = INFINITE

    def enter(self, key: bytes) -> Seat:
        """The caller's hold on what it may be handed; to be held until the outcome is in hand."""
        with self._lock:
            link = self._links.get(key)
            if link is None:
                link = self._links[key] = Link()
            return Seat(self._kept.get(key), link)

    def forgets(self, seat: Seat) -> int:
        return _last(seat.link).forgets

    def publish(
        self, key: bytes, seat: Seat, lead: int, forgets: int, value: Any, error: Optional[BaseException]
    ) -> bytes:
        """Makes an outcome findable, before the library tells anybody of it. Gives the response.

        ``forgets`` is what it was when the lead was given: if it has grown, the flight is detached
        and its outcome won't be retained.
        """
        gone = None  # user objects die outside the lock
        outcome, following = Outcome(lead, value, error), Link()
        with self._lock:
            last = _last(seat.link)  # nothing is made from here to the next line: see _start_over
            following.forgets, last.outcome, last.next = last.forgets, outcome, following
            self._links[key] = following
            kept = self._kept.get(key)
            if forgets == last.forgets and (kept is None or kept.lead < lead):
                gone = kept
                self._kept[key] = outcome
        del gone
        return self._format.pack(self._mark, lead)

    def settled(self, key: bytes, lead: int, ttl: float) -> None:
        """The library has answered; 0: it refused, or retains nothing."""
        gone = []
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.lead != lead:
                return
            if not ttl:
                gone.append(self._kept.pop(key))
                return
            kept.deadline = time.monotonic() + ttl
            heapq.heappush(self._due, (kept.deadline, lead, key))
            if len(self._due) > 2 * len(self._kept) + 64:
                self._due = [(o.deadline, o.lead, k) for k, o in self._kept.items() if o.deadline < INFINITE]
                heapq.heapify(self._due)
            while len(self._kept) > self._capacity and self._due:
                gone += self._pop()
            self._arm()

    def find(self, key: bytes, seat: Seat, response: bytes) -> Optional[Outcome]:
        lead = self.lead_of(response)
        for outcome in (seat.kept, self._kept.get(key)):
            if outcome is not None and outcome.lead == lead:
                return outcome
        link: Optional[Link] = seat.link
        while link is not None:
            if link.outcome is not None and link.outcome.lead == lead:
                return link.outcome
            link = link.next
        return None

    def lead_of(self, response: bytes) -> int:
        """The lead whose outcome a response stands for; 0: a response of somebody's own bytes."""
        if len(response) != self._format.size or not response.startswith(self._mark):
            return 0
        lead: int = self._format.unpack(response)[1]
        return lead

    def forget(self, key: bytes) -> None:
        """To be called before the library forgets: no lead of the time after may be taken for detached."""
        with self._lock:
            link = self._links.get(key)
            if link is not None:
                _last(link).forgets += 1
            gone = self._kept.pop(key, None)
        del gone

    def clear(self) -> None:
        with self._lock:
            gone = self._kept
            self._kept = {}
            self._due = []
        del gone

    def __len__(self) -> int:
        return len(self._kept)

    def _pop(self) -> List[Outcome]:
        """Takes out what is due first, unless it was replaced in the meantime."""
        _, lead, key = heapq.heappop(self._due)
        kept = self._kept.get(key)
        return [self._kept.pop(key)] if kept is not None and kept.lead == lead else []

    def _arm(self) -> None:
        if not self._due or self._due[0][0] >= self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = self._due[0][0]
        delay = max(self._timer_due - time.monotonic(), REAP_PAUSE)
        self._timer = threading.Timer(min(delay, threading.TIMEOUT_MAX), _reap, (weakref.ref(self),))
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # the interpreter is going down, and everything with it
            self._timer_due = INFINITE

    def reap(self) -> None:
        gone = []
        with self._lock:
            self._timer, self._timer_due = None, INFINITE
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                gone += self._pop()
            self._arm()


def _last(link: Link) -> Link:
    while link.next is not None:
        link = link.next
    return link


def _reap(reference: weakref.ref[Objects]) -> None:
    objects = reference()
    if objects is not None:
        objects.reap()


_all: weakref.WeakSet[Objects] = weakref.WeakSet()


def _after_fork() -> None:
    # A lock may have been held, and no timer thread lives on. The table itself says FORKED.
    for objects in list(_all):
        objects._start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
