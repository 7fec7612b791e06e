"""onceflight: for each key at most one caller does the work, and every other has its outcome.

from onceflight import Table

with Table(completed_ttl=0.5) as table:
    page = table.run("GET /", lambda: fetch("/"))
"""

from ._native import Key
from ._native import lib as _lib
from .aio import AsyncTable
from .dedupe import dedupe
from .errors import (
    BufferTooSmall,
    CalleeFailed,
    Cancelled,
    Closed,
    Conflict,
    Expired,
    Fenced,
    Forked,
    FormatError,
    InvalidArgument,
    Malformed,
    Mismatch,
    NullArgument,
    OnceflightError,
    Overloaded,
    Panic,
    SeqStale,
    Stale,
    StoreFailed,
    Timeout,
    TooLarge,
    Unknown,
    Unrecorded,
    Unsupported,
    WindowFull,
    WouldDeadlock,
)
from .fingerprint import fingerprint, request_key
from .outcome import BYPASS, Begun, Bypass, Lead, LeadDetails, Response
from .sessions import SessionResponse, Sessions, SessionStats
from .statements import sql
from .table import Stats, Table

__version__ = "0.1.0"
library_version: str = _lib.version_string().decode()

__all__ = [
    "AsyncTable", "BYPASS", "Begun", "BufferTooSmall", "Bypass", "CalleeFailed", "Cancelled", "Closed",
    "Conflict", "Expired", "Fenced", "Forked", "FormatError", "InvalidArgument", "Key", "Lead", "LeadDetails",
    "Malformed", "Mismatch", "NullArgument", "OnceflightError", "Overloaded", "Panic", "Response", "SeqStale",
    "SessionResponse", "SessionStats", "Sessions", "Stale", "Stats", "StoreFailed", "Table", "Timeout",
    "TooLarge", "Unknown", "Unrecorded", "Unsupported", "WindowFull", "WouldDeadlock", "dedupe",
    "fingerprint", "library_version", "request_key", "sql",
]  # fmt: skip
