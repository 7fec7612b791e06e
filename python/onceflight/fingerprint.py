"""Bytes that say "the same payload" and "the same request"."""

from __future__ import annotations

import ctypes
from typing import Iterable, Optional, Tuple, Union

from . import _native
from ._native import Bytes, check, lib

Text = Union[str, Bytes]


def fingerprint(*fields: Text, secret: Optional[bytes] = None) -> bytes:
    """16 bytes over the fields, each with its length, so ("ab", "c") and ("a", "bc") differ."""
    out = ctypes.create_string_buffer(16)
    slices = _slices(fields)
    check(lib.fingerprint(slices, len(slices), _secret(secret), out))
    return out.raw


def request_key(
    method: str,
    url: str,
    headers: Iterable[Tuple[str, Text]] = (),
    body: Bytes = b"",
    secret: Optional[bytes] = None,
) -> bytes:
    """16 bytes that two HTTP requests share if method, URL, the given headers and the body are equal.

    Without a secret, one is drawn at random for this process.
    """
    out = ctypes.create_string_buffer(16)
    lines = _slices([_bytes(name) + b": " + _bytes(value) for name, value in headers])
    body = bytes(body)
    check(
        lib.request_key(
            method.encode(), url.encode(), lines, len(lines), body, len(body), _secret(secret), out
        )
    )
    return out.raw


def _slices(fields: Iterable[Text]) -> "ctypes.Array[_native.Slice]":
    values = [_bytes(field) for field in fields]
    return (_native.Slice * len(values))(*(_native.Slice(value, len(value)) for value in values))


def _bytes(field: Text) -> bytes:
    return field.encode() if isinstance(field, str) else bytes(field)


def _secret(secret: Optional[bytes]) -> Optional[bytes]:
    if secret is not None and len(secret) != 16:
        raise ValueError(f"a secret is 16 bytes, not {len(secret)}")
    return secret
