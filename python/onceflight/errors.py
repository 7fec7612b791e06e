"""One exception class a kind; every one is an :class:`OnceflightError` with the C code in ``.code``."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Type


class OnceflightError(Exception):
    """Why there is no outcome. ``code`` is the ``ONCEFLIGHT_E_…`` of the C header."""

    code: ClassVar[int] = 0


class NullArgument(OnceflightError, ValueError):
    """A pointer was NULL. Not reachable through this package's classes."""

    code = -1


class InvalidArgument(OnceflightError, ValueError):
    """An argument can't be used as it is."""

    code = -2


class Panic(OnceflightError):
    """A bug in the library: it panicked, and stopped at the C boundary."""

    code = -3


class Timeout(OnceflightError, TimeoutError):
    """Still in flight when the caller's time was up. The flight goes on."""

    code = -4


class Stale(OnceflightError):
    """This lead was settled before, or another leader has taken over. Nothing was changed.

    From ``run``, the value that could not be shared is in ``value``.
    """

    code = -5
    value: Any = None


class Cancelled(OnceflightError):
    """The leader cancelled, and the table fails its followers (``on_cancel="fail_all"``)."""

    code = -6


class Mismatch(OnceflightError):
    """The same key with another fingerprint: another payload."""

    code = -7


class WouldDeadlock(OnceflightError):
    """Waiting would never end: this thread leads, directly or through others, what it would wait for."""

    code = -8


class Overloaded(OnceflightError):
    """A limit is reached: keys in flight, or followers of this key."""

    code = -9


class TooLarge(OnceflightError, ValueError):
    """The key, the response or the checkpoint is larger than the table allows. The lead lives on.

    From ``Sessions``: it was executed, but its response couldn't be kept.
    """

    code = -10


class Closed(OnceflightError):
    """The table is closed."""

    code = -11


class Forked(OnceflightError):
    """Made before a fork, by the parent process. Open a new table in the child."""

    code = -12


class StoreFailed(OnceflightError):
    """The store failed or can't be reached. Nothing was executed on its word."""

    code = -13


class Unknown(OnceflightError):
    """An earlier attempt may have happened, and the policy forbids taking over."""

    code = -14


class BufferTooSmall(OnceflightError):
    """A caller's buffer was too small. Not reachable through this package's classes."""

    code = -15


class Unsupported(OnceflightError):
    """The library was built without that store or feature."""

    code = -16


class Expired(OnceflightError):
    """There is no such session (any more): whether earlier requests were executed can't be told."""

    code = -20


class Fenced(OnceflightError):
    """A later incarnation of this client has registered; this one is over."""

    code = -21


class SeqStale(OnceflightError):
    """The sequence number was acknowledged, and its response is gone."""

    code = -22


class WindowFull(OnceflightError):
    """The sequence number is beyond the window. Nothing was executed; acknowledge, then send it again."""

    code = -23


class Conflict(OnceflightError):
    """The sequence number is in use with another payload."""

    code = -24


class Malformed(OnceflightError, ValueError):
    """The request contradicts itself. Nothing was executed."""

    code = -25


class FormatError(OnceflightError, ValueError):
    """A snapshot of an unknown version, or bytes that are none (any more)."""

    code = -26


class Unrecorded(OnceflightError):
    """fn has run, but the store didn't take its outcome, so a retry may run it again. From ``run``.

    What fn returned is in ``value``; the cause is the store's error.
    """

    code = StoreFailed.code

    def __init__(self, text: str, value: Any = None) -> None:
        super().__init__(text)
        self.value = value


class CalleeFailed(OnceflightError):
    """fn raised an exception in another process, which was waited for. ``kind`` is the name of its class."""

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


_CLASSES: Dict[int, Type[OnceflightError]] = {
    error.code: error
    for error in (
        NullArgument, InvalidArgument, Panic, Timeout, Stale, Cancelled, Mismatch, WouldDeadlock,
        Overloaded, TooLarge, Closed, Forked, StoreFailed, Unknown, BufferTooSmall, Unsupported,
        Expired, Fenced, SeqStale, WindowFull, Conflict, Malformed, FormatError,
    )
}  # fmt: skip


def error_for(code: int, message: str) -> OnceflightError:
    """The exception of a code. A code of a newer library is a plain OnceflightError."""
    known = _CLASSES.get(code)
    if known is not None:
        return known(message)
    error = OnceflightError(message)
    error.code = code  # type: ignore[misc]
    return error
