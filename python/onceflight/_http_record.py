"""How a response is kept: its status is the record's, and its headers and body are the data.

| bytes | what |
|-|-|
| 1 | the format: 1; 0 if the response was too large to keep, and nothing follows |
| 2 | how many headers there are |
| 2, n, 4, n | each: the name's length, the name, the value's length, the value |
| the rest | the body |

Lengths are little-endian. Headers stand in their order, repeated ones too, and values are any bytes. It is
the format of the Rust library's ``http`` module too.
"""

from __future__ import annotations

import re
import struct
from typing import List, Tuple

Headers = List[Tuple[str, str]]

FORMAT, WITHOUT_BODY = 1, 0
NOT_KEPT = bytes([WITHOUT_BODY])

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Corrupt(ValueError):
    """What was kept is no response."""


class NotKept(Exception):
    """It was too large to keep."""


def encode(headers: Headers, body: bytes) -> bytes:
    parts = [struct.pack("<BH", FORMAT, len(headers))]
    for name, value in headers:
        for text, length in ((name.encode("latin-1"), "<H"), (value.encode("latin-1"), "<I")):
            parts += [struct.pack(length, len(text)), text]
    return b"".join([*parts, body])


def decode(data: bytes) -> Tuple[Headers, bytes]:
    if data == NOT_KEPT:
        raise NotKept
    try:
        form, count = struct.unpack_from("<BH", data)
        if form != FORMAT:
            raise Corrupt
        headers, at = [], 3
        for _ in range(count):
            name, at = _take(data, "<H", at)
            value, at = _take(data, "<I", at)
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise Corrupt
            headers.append((name.decode("latin-1"), value.decode("latin-1")))
    except struct.error:
        raise Corrupt from None
    return headers, data[at:]


def _take(data: bytes, length: str, at: int) -> Tuple[bytes, int]:
    """The bytes whose length stands there, and where they end."""
    start = at + struct.calcsize(length)
    end = start + int(struct.unpack_from(length, data, at)[0])
    if end > len(data):
        raise Corrupt
    return data[start:end], end
