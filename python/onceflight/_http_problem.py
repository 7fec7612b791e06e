"""Refusals, as problem details (RFC 9457).

| problem | status | its type's last part |
|-|-|-|
| there must be a key | 400 | ``key-missing`` |
| there is one that can't be used | 400 | ``key-invalid`` |
| the body ended before it was whole | 400 | ``request-incomplete`` |
| the first request with the key is in progress | 409, ``Retry-After`` | ``in-progress`` |
| an earlier one may have been executed | 409 | ``outcome-unknown`` |
| it was executed; the response was too large to keep | 409 | ``response-not-kept`` |
| the body is in chunks that this server can't read | 411 | ``length-required`` |
| the body is longer than is fingerprinted | 413 | ``request-too-large`` |
| the key was used with another payload | 422 | ``key-reused`` |
| what was kept can't be read | 500 | ``record-corrupt`` |
| the store can't be asked | 503, ``Retry-After`` | ``unavailable`` |
| too many requests are in progress | 503, ``Retry-After`` | ``overloaded`` |

Types and texts are those of the Rust library's ``http`` module, which has whole requests only and so neither
``request-incomplete`` nor ``length-required``.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Union

from .errors import Cancelled, Mismatch, OnceflightError, Overloaded, Timeout, Unknown, WouldDeadlock


class Problem(NamedTuple):
    name: str
    status: int
    title: str
    detail: str

    @property
    def passes(self) -> bool:
        """Whether it may be sent again later, as it is."""
        return self in (IN_PROGRESS, UNAVAILABLE, OVERLOADED)

    def body(self, base: str) -> bytes:
        told = {
            "type": base + self.name,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


_AGAIN = "Nothing was executed. Send it again later, with the same key."

KEY_MISSING = Problem(
    "key-missing",
    400,
    "An Idempotency-Key is required",
    'Send a key that is unique to this operation, such as a UUID: Idempotency-Key: "...".',
)
KEY_REUSED = Problem(
    "key-reused",
    422,
    "The Idempotency-Key was used with another payload",
    "Send a new key for a new payload. Nothing was executed.",
)
IN_PROGRESS = Problem(
    "in-progress",
    409,
    "A request with this Idempotency-Key is in progress",
    "Send it again later, with the same key.",
)
OUTCOME_UNKNOWN = Problem(
    "outcome-unknown",
    409,
    "Whether the request was executed is unknown",
    "An earlier attempt was lost. Find out what it did before you send another key.",
)
REQUEST_INCOMPLETE = Problem("request-incomplete", 400, "The request isn't whole", _AGAIN)
LENGTH_REQUIRED = Problem(
    "length-required",
    411,
    "The request needs a Content-Length",
    "Nothing was executed. Send it again, not in chunks.",
)
UNAVAILABLE = Problem("unavailable", 503, "Idempotency-Keys can't be looked up", _AGAIN)
OVERLOADED = Problem("overloaded", 503, "Too many requests are in progress", _AGAIN)
RECORD_CORRUPT = Problem(
    "record-corrupt",
    500,
    "What was kept of the request can't be read",
    "It won't be executed again. The operator has to look.",
)


def key_invalid(why: object) -> Problem:
    return Problem("key-invalid", 400, "The Idempotency-Key can't be used", f"{why}. Nothing was executed.")


def response_not_kept(status: int) -> Problem:
    return Problem(
        "response-not-kept",
        409,
        "The request was executed; its response wasn't kept",
        f"It was answered {status}; the response was too large to keep.",
    )


def request_too_large(size: Union[int, str], most: int) -> Problem:
    return Problem(
        "request-too-large",
        413,
        "The request is too large",
        f"The body has {size} bytes; {most} are allowed with a key. Nothing was executed.",
    )


def of(error: OnceflightError) -> Problem:
    """What a client is told of an error of the table. The error's own words are for the operator."""
    if isinstance(error, Mismatch):
        return KEY_REUSED
    if isinstance(error, (Timeout, Cancelled, WouldDeadlock)):
        return IN_PROGRESS
    if isinstance(error, Unknown):
        return OUTCOME_UNKNOWN
    return OVERLOADED if isinstance(error, Overloaded) else UNAVAILABLE
