"""What a begin asks for."""

from __future__ import annotations

import ctypes
from typing import Optional

from . import _native
from ._native import DEFAULT, FOREVER, Bytes, to_ms


def make_request(
    key: bytes,
    timeout: Optional[float],
    ttl: Optional[float],
    lease: Optional[float],
    fingerprint: Optional[Bytes],
    flags: int,
) -> _native.Request:
    print_ = None if fingerprint is None else bytes(fingerprint)  # None, a NULL, is no fingerprint
    return _native.Request(
        ctypes.sizeof(_native.Request),
        key,
        len(key),
        print_,
        len(print_ or b""),
        to_ms(timeout, FOREVER),
        to_ms(lease, DEFAULT),
        to_ms(ttl, DEFAULT),
        flags,
    )
