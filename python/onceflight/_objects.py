"""How ``run`` shares live Python objects over a table that holds bytes.

The response of a run holds no object, only the id of the lead that made it (lead ids never repeat in
a process, and grow with every leader of a key). The object stands here, beside the table, and must
live as long as somebody can still be handed that id, and no longer. The library calls nobody back
when a record goes, so an object passes through three places, the next always before it leaves the one
before; who is handed an id looks in them in the same order:

* ``_settling``, by lead: from before the library hears of it until the leader has done the rest.
* ``_kept``, by key: for those who come later, where the library retains the record. Kept for the same
  ttl, which ends after the library's (it starts later), and by the same limit on entries. A new leader
  of a key proves that the older record is gone, and so does forget. A timer gives the rest back,
  look-up or not.
* a link, for those who waited, however late they wake. A caller enters before it waits. The outcomes
  of a key since then form a chain, oldest first, each link holding the next; a caller holds the link
  that was last when it entered, and with it all that is settled since. When the last holder of a link
  leaves, reference counting frees it. Nothing is counted or swept. A key that nobody waits for has no
  link, and costs its leader one look.

A caller that finds nothing begins again: in the meantime the record may have expired, or been
replaced. If it is handed the same id again, the two sides have evicted different keys, and it forgets
the key first.
"""

from __future__ import annotations

import heapq
import os
import struct
import threading
import time
import weakref
from typing import Any, Dict, List, Optional, Tuple

INFINITE = float("inf")
REAP_PAUSE = 0.05  # seconds between two reaps at the least, so that short windows don't spin a thread


class Outcome:
    """What one run came to."""

    __slots__ = ("lead", "value", "error", "trace", "deadline")
    deadline: float  # once it is kept

    def __init__(self, lead: int, value: Any, error: Optional[BaseException]) -> None:
        self.lead = lead
        self.value = value
        self.error = error
        if error is not None:
            self.trace = error.__traceback__

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

    __slots__ = ("outcome", "next", "__weakref__")

    def __init__(self) -> None:
        self.outcome: Optional[Outcome] = None
        self.next: Optional[Link] = None


class Objects:
    """The objects of one table."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._format = struct.Struct("<8sQ")
        self._mark = os.urandom(8)  # tells our responses from bytes that others completed with
        self._settling: Dict[int, Outcome] = {}
        self._links: Dict[bytes, weakref.ref[Link]] = {}
        self._attached: Dict[bytes, int] = {}  # the leads that may be retained
        self._kept: Dict[bytes, Outcome] = {}
        self._due: List[Tuple[float, int, bytes]] = []  # a heap; entries of the replaced stay in until due
        self._start_over()
        _all.add(self)

    def _start_over(self) -> None:
        # Reentrant: a collection may start inside, after any call, and run a finalizer that comes
        # back here. So what was looked up before a call may be gone after it.
        self._lock = threading.RLock()
        self._timer: Optional[threading.Timer] = None
        self._timer_due = INFINITE

    def enter(self, key: bytes) -> Link:
        """The caller's hold on what it may be handed, until the outcome is in hand; then it leaves."""
        with self._lock:
            reference = self._links.get(key)
            link = reference() if reference is not None else None
            if link is None:
                link = Link()
                self._links[key] = weakref.ref(link)
            return link

    def leave(self, key: bytes) -> None:
        """To be called after the link is dropped."""
        with self._lock:
            reference = self._links.get(key)
            if reference is not None and reference() is None:
                self._links.pop(key, None)

    def attach(self, key: bytes, lead: int) -> None:
        """A lead whose outcome the library will retain, unless the key is forgotten before."""
        with self._lock:
            if self._attached.get(key, 0) < lead:
                self._attached[key] = lead

    def detach(self, key: bytes, lead: int) -> bool:
        """False: it was forgotten, or another leads."""
        with self._lock:
            attached = self._attached.pop(key, 0)
            if attached > lead and self._attached.get(key, 0) < attached:
                self._attached[key] = attached
            return attached == lead

    def publish(self, outcome: Outcome) -> bytes:
        """Makes an outcome findable, before the library tells anybody of it. Gives the response."""
        lead = outcome.lead
        self._settling[lead] = outcome
        return self._format.pack(self._mark, lead)

    def settled(self, key: bytes, outcome: Outcome, ttl: float) -> None:
        """The library has answered; ttl 0: it retains nothing."""
        try:
            if key in self._links:
                self._hand_over(key, outcome)
            if ttl or key in self._kept:
                self._keep(key, outcome, ttl)
        finally:
            self._settling.pop(outcome.lead, None)

    def _hand_over(self, key: bytes, outcome: Outcome) -> None:
        following = Link()
        onward = weakref.ref(following)
        with self._lock:
            reference = self._links.get(key)
            link = reference() if reference is not None else None
            if link is not None:
                self._links[key] = onward
                while link.next is not None:  # a finalizer has handed over just now: see _start_over
                    link = link.next
                link.outcome, link.next = outcome, following

    def _keep(self, key: bytes, outcome: Outcome, ttl: float) -> None:
        gone = []  # user objects die outside the lock
        lead = outcome.lead
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                if kept.lead > lead:
                    return
                gone.append(kept)
                self._kept.pop(key, None)
            if not ttl:
                return
            outcome.deadline = time.monotonic() + ttl
            self._kept[key] = outcome
            heapq.heappush(self._due, (outcome.deadline, lead, key))
            if len(self._due) > 2 * len(self._kept) + 64:
                self._due = [(o.deadline, o.lead, k) for k, o in self._kept.items()]
                heapq.heapify(self._due)
            while len(self._kept) > self._capacity and self._due:
                gone += self._pop()
            self._arm()

    def find(self, key: bytes, link: Optional[Link], lead: int) -> Optional[Outcome]:
        outcome = self._settling.get(lead)
        if outcome is not None:
            return outcome
        outcome = self._kept.get(key)
        if outcome is not None and outcome.lead == lead:
            return outcome
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
            self._attached.pop(key, None)
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
        if kept is None or kept.lead != lead:
            return []
        self._kept.pop(key, None)
        return [kept]

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
