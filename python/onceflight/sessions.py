"""Sessions: exactly-once inside a replicated state machine."""

from __future__ import annotations

import ctypes
import math
from ctypes import byref, c_uint64
from typing import Callable, Iterable, List, NamedTuple, Optional, Tuple, Union

from ._native import (
    DEFAULT,
    FOREVER,
    LEAD,
    REPLAYED,
    Bytes,
    Key,
    ResponseHandle,
    RowsHandle,
    SessionLimits,
    SessionsHandle,
    SessionStatsStruct,
    Slice,
    check,
    lib,
    quick,
    to_key,
)

Executed = Union[Bytes, Tuple[int, Bytes]]


class SessionResponse(NamedTuple):
    """What the client is told, the first time and on every retry."""

    status: int
    data: bytes
    replayed: bool
    """Whether it was executed earlier."""


class SessionStats(NamedTuple):
    sessions: int
    response_bytes: int
    """Of all responses that are kept."""
    now_ms: int
    """The log's time: the highest that a change came with."""


class Sessions:
    """What a replicated state machine knows of its clients: which requests it has executed, and what it
    said to them. A part of the state machine: every replica applies the same log to its own.

    Nothing in it reads a clock or draws a number. ``now_ms`` is in the log's entry, put there by the
    leader; where it goes back, the table's time stands still. A client registers and sends its
    incarnation with each request, or doesn't, and sends 0: then its request number 1 registers it.

    ``window`` is how many requests a client may have in progress (16; 1 to 64), ``timeout_ms`` how long a
    session lives without being used (an hour; ``math.inf``: for ever). Past ``max_sessions`` (65,536) or
    ``max_bytes`` of responses (256 MiB), sessions go whose last use is the longest ago. A response longer
    than ``max_response_len`` (1 MiB), or for which a session has no room (``max_session_bytes``, 16 MiB), is
    only remembered as executed. All replicas need the same limits; a snapshot carries them.

    Threads may share it: each call is whole. Between a ``begin`` that leads and its ``record``, all that
    changes the table, and ``snapshot``, is refused with ``InvalidArgument``.
    """

    def __init__(
        self,
        *,
        max_sessions: Optional[int] = None,
        window: Optional[int] = None,
        timeout_ms: Union[int, float, None] = None,
        max_response_len: Optional[int] = None,
        max_session_bytes: Optional[int] = None,
        max_bytes: Optional[int] = None,
    ) -> None:
        limits = SessionLimits(
            ctypes.sizeof(SessionLimits),
            _limit(max_sessions),
            _limit(window),
            _limit(timeout_ms),
            _limit(max_response_len),
            _limit(max_session_bytes),
            _limit(max_bytes),
        )
        self._handle = SessionsHandle()
        check(quick.sessions_with_limits(byref(limits), self._handle._adopt()))

    @classmethod
    def restore(cls, snapshot: Bytes) -> Sessions:
        """The table that a snapshot was made of. Other bytes are a ``FormatError``."""
        data = _bytes(snapshot)
        made = cls.__new__(cls)
        made._handle = handle = SessionsHandle()
        check(lib.sessions_restore(data, len(data), handle._adopt()))
        return made

    def register(self, client: Key, nonce: Key, *, now_ms: int) -> int:
        """A session for this client, and its incarnation, which no other has had.

        The same nonce again is the same registration again. Another one, to be drawn at random, is another
        life of the client; what the earlier one still has under way is ``Fenced``. Only the last nonce is
        known: a late copy of an earlier registration is another life too.
        """
        name, nonce = to_key(client), to_key(nonce)
        incarnation = c_uint64()
        out = byref(incarnation)
        check(quick.sessions_register(self._at, name, len(name), nonce, len(nonce), _number(now_ms), out))
        return incarnation.value

    def apply(
        self,
        client: Key,
        incarnation: int,
        seq: int,
        fn: Callable[[], Executed],
        *,
        now_ms: int,
        ack: int = 0,
        digest: Optional[bytes] = None,
    ) -> SessionResponse:
        """Executes an entry of the log unless it was: ``fn`` gives bytes, or a status and bytes.

        ``seq`` is the client's number for the request, from 1 on; ``ack`` the lowest one that it has no
        reply of; ``digest`` 16 bytes that tell this payload from another, such as a ``fingerprint``.

        An exception of fn passes, and leaves the entry open, since the state may be half changed:
        ``record`` what it came to, or give the replica up. ``TooLarge``: executed, now or earlier, but the
        response couldn't be kept.
        """
        replayed = self.begin(client, incarnation, seq, now_ms=now_ms, ack=ack, digest=digest)
        if replayed is not None:
            return replayed
        executed = fn()
        status, data = executed if isinstance(executed, tuple) else (0, executed)
        data = _bytes(data)
        self.record(client, incarnation, seq, data, status)
        return SessionResponse(status, data, False)

    def begin(
        self,
        client: Key,
        incarnation: int,
        seq: int,
        *,
        now_ms: int,
        ack: int = 0,
        digest: Optional[bytes] = None,
    ) -> Optional[SessionResponse]:
        """What was said to a request; ``None``: execute it now, then ``record``."""
        if digest is not None and len(digest) != 16:
            raise ValueError(f"a digest is 16 bytes, not {len(digest)}")
        name, response = to_key(client), ResponseHandle()
        code = quick.sessions_begin(
            self._at,
            name,
            len(name),
            _number(incarnation),
            _number(seq),
            _number(ack),
            digest,
            _number(now_ms),
            response._adopt(),
        )
        return None if check(code) == LEAD else SessionResponse(*response.read(), True)

    def record(self, client: Key, incarnation: int, seq: int, data: Bytes = b"", status: int = 0) -> None:
        """What the request that was begun came to: what a retry is told.

        ``TooLarge``: the response can't be kept, and a retry is told that; the entry is closed too.
        """
        name, data = to_key(client), _bytes(data)
        numbers = _number(incarnation), _number(seq), _status(status)
        check(quick.sessions_record(self._at, name, len(name), *numbers, data, len(data)))

    def peek(self, client: Key, incarnation: int, seq: int) -> Optional[SessionResponse]:
        """What was said to a request, if it was executed here: for a leader, which so answers a retry
        without the log. ``None``: nothing is known of it here; propose it. Changes nothing.

        Where entries of the log are still to be applied here, ``Expired`` isn't certain: propose it too.
        """
        name, response = to_key(client), ResponseHandle()
        out = response._adopt()
        code = quick.sessions_peek(self._at, name, len(name), _number(incarnation), _number(seq), out)
        return SessionResponse(*response.read(), True) if check(code) == REPLAYED else None

    def keep_alive(self, client: Key, incarnation: int, *, now_ms: int) -> None:
        """Keeps a session from expiring."""
        name = to_key(client)
        check(quick.sessions_keep_alive(self._at, name, len(name), _number(incarnation), _number(now_ms)))

    def unregister(self, client: Key) -> None:
        """Ends a client's session, whichever incarnation it is. ``Expired``: there is none."""
        name = to_key(client)
        check(quick.sessions_unregister(self._at, name, len(name)))

    def expire(self, now_ms: int) -> int:
        """Ends the sessions whose timeout has passed by then; how many. Every other change that has a
        time does so too; this is for times when there is none.
        """
        expired = c_uint64()
        check(quick.sessions_expire(self._at, _number(now_ms), byref(expired)))
        return expired.value

    def snapshot(self) -> bytes:
        """All of the table. It belongs into one snapshot with the state that the requests have changed.
        Replicas that applied the same log give the same bytes.
        """
        written = ResponseHandle()
        check(lib.sessions_snapshot(self._at, written._adopt()))
        return written.read()[1]

    def save(self) -> List[Tuple[Optional[bytes], Optional[bytes]]]:
        """What has changed since the last save, as rows for a database of your own: all the first time, and
        nothing that ``load`` gave. Each is ``(client, row)``, to be put in place of that client's row before.
        Without a client it is the table's own; without a row, the client's is to be deleted.

        They belong into the transaction that changes the state. If that doesn't commit, the table is ahead
        of the database, and must be loaded from it again.
        """
        rows = RowsHandle()
        check(lib.sessions_save(self._at, rows._adopt()))
        return rows.read()

    @classmethod
    def load(cls, table: Bytes, rows: Iterable[Bytes]) -> Sessions:
        """The table that was saved: its own row, and those of all clients, in any order. A row that is
        corrupt, missing or one too many is a ``FormatError``."""
        data, each = _bytes(table), [_bytes(row) for row in rows]
        slices = (Slice * len(each))(*(Slice(row, len(row)) for row in each))
        made = cls.__new__(cls)
        made._handle = handle = SessionsHandle()
        check(lib.sessions_load(data, len(data), slices, len(each), handle._adopt()))
        return made

    def stats(self) -> SessionStats:
        found = SessionStatsStruct(ctypes.sizeof(SessionStatsStruct))
        check(quick.sessions_stats(self._at, byref(found)))
        return SessionStats(found.sessions, found.response_bytes, found.now_ms)

    def __len__(self) -> int:
        return self.stats().sessions

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Sessions {len(self)}>"

    @property
    def _at(self) -> Optional[int]:
        return self._handle._pointer


def _limit(value: Union[int, float, None]) -> int:
    if value is None:
        return DEFAULT
    return FOREVER if value == math.inf else _number(value)


def _number(value: Union[int, float]) -> int:
    """ctypes would take the lowest 64 bits of any integer."""
    if not isinstance(value, int) or not 0 <= value <= FOREVER:
        raise ValueError(f"a number from 0 to 2**64 - 1, not {value!r}")
    return value


def _status(value: int) -> int:
    if not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise ValueError(f"a status is a number of 32 bits, not {value!r}")
    return value


def _bytes(data: Bytes) -> bytes:
    return data if type(data) is bytes else memoryview(data).tobytes()
