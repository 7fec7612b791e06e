#!/usr/bin/env python3
"""Fingerprints and request keys, written a second time from docs/fingerprint.md alone.

The vectors that hold the library come from here, so they don't depend on the code they test.

    reference.py            print the vectors
    reference.py --check    compare them with fingerprint.txt beside this file
"""

import pathlib
import sys

MASK = (1 << 64) - 1
FIXED = b"onceflight fixed"
COUNTING = bytes(range(16))
OTHER = bytes.fromhex("ffeeddccbbaa99887766554433221100")


def siphash_2_4_128(key, message):
    """SipHash-2-4 with 128 bits of output, after the paper and its authors' specification."""
    k0, k1 = word(key[:8]), word(key[8:])
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D ^ 0xEE,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        block = word(padded[at : at + 8])
        v[3] ^= block
        rounds(v, 2)
        v[0] ^= block
    output = b""
    for lane, constant in ((2, 0xEE), (1, 0xDD)):
        v[lane] ^= constant
        rounds(v, 4)
        output += (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")
    return output


def rounds(v, count):
    for _ in range(count):
        half_round(v, 0, 1, 13, 32)
        half_round(v, 2, 3, 16, 0)
        half_round(v, 0, 3, 21, 0)
        half_round(v, 2, 1, 17, 32)


def half_round(v, a, b, turn_b, turn_a):
    v[a] = (v[a] + v[b]) & MASK
    v[b] = rotate(v[b], turn_b) ^ v[a]
    v[a] = rotate(v[a], turn_a)


def rotate(value, by):
    return (value << by | value >> (64 - by)) & MASK


def word(eight_bytes):
    return int.from_bytes(eight_bytes, "little")


def frame(tag, fields):
    assert len(tag) == 16
    framed = b"".join(len(field).to_bytes(8, "little") + field for field in fields)
    return tag + framed + len(fields).to_bytes(8, "little")


def fields_frame(fields):
    return frame(b"onceflight/fp/1\n", fields)


def request_frame(method, url, lines, body):
    headers = []
    for line in lines:
        name, value = line.split(b":", 1)
        headers.append((name.lower(), value.strip(b" \t")))
    headers.sort(key=lambda header: header[0])
    flat = [part for header in headers for part in header]
    return frame(b"onceflight/rq/1\n", [method, url, *flat, body])


FIELD_LISTS = [
    [],
    [b""],
    [b"", b""],
    [b"a"],
    [b"a", b"bc"],
    [b"ab", b"c"],
    [b"abc"],
    [b"abc", b""],
    [b"POST", b"/payments", b'{"cents":100}'],
    [bytes(8)],
    [(1).to_bytes(8, "little")],
    [b"\x00\xff", "žluťoučký kůň".encode()],
    # One field that looks like the frame of two.
    [b"a" + (1).to_bytes(8, "little") + b"b"],
    # Lengths whose second byte isn't zero, and a frame longer than SipHash's own length byte.
    [bytes(range(256)), b"x" * 300],
    [bytes([n]) for n in range(20)],
    # Every length of the last block.
    *[[bytes(range(n))] for n in range(2, 10)],
]

REQUESTS = [
    (b"GET", b"/", [], b""),
    (b"get", b"/", [], b""),
    (b"", b"", [], b""),
    (b"GET", b"https://example.org/a?b=c#d", [], b""),
    (b"GET", b"/", [b"Accept: text/html", b"Cookie: id=7"], b""),
    # The same request: names without case, blanks trimmed, other order of names.
    (b"GET", b"/", [b"cookie:id=7\t", b"ACCEPT: \t text/html "], b""),
    # Not the same: the order of values of one name.
    (b"GET", b"/", [b"Via: a", b"Accept: x", b"via: b"], b""),
    (b"GET", b"/", [b"Via: b", b"Accept: x", b"via: a"], b""),
    (b"GET", b"/", [b"Via: a, b", b"Accept: x"], b""),
    (b"GET", b"/", [b"x-a: bc"], b""),
    (b"GET", b"/", [b"x-ab: c"], b""),
    (b"GET", b"/", [b"X-Empty:"], b""),
    (b"GET", b"/", [b"Host: example.org:8080", b"X-Bytes: \xff\xfe"], b""),
    (b"POST", b"/", [b"Content-Type: text/plain"], b"Via: a"),
    (b"POST", b"/", [b"Content-Type: text/plain", b"Via: a"], b""),
    (b"POST", b"/upload", [], bytes(range(256)) + b"\x00\n" * 30),
]

# From the SipHash authors' list: the hash of the bytes 0, 1, .. n - 1 under COUNTING.
PUBLISHED = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
    63: "5150d1772f50834a503e069a973fbd7c",
}


def vectors():
    yield "# Made by reference.py. Bytes are hexadecimal, - is no bytes."
    yield "# siphash KEY MESSAGE HASH"
    for length in range(64):
        message = bytes(range(length))
        yield line("siphash", COUNTING, message, siphash_2_4_128(COUNTING, message))
    yield "# fields SECRET FRAME FINGERPRINT FIELD.."
    for fields in FIELD_LISTS:
        framed = fields_frame(fields)
        for secret in (FIXED, COUNTING):
            yield line("fields", secret, framed, siphash_2_4_128(secret, framed), *fields)
    yield "# request SECRET FRAME KEY METHOD URL BODY HEADER-LINE.."
    for method, url, lines, body in REQUESTS:
        framed = request_frame(method, url, lines, body)
        for secret in (COUNTING, OTHER):
            key = siphash_2_4_128(secret, framed)
            yield line("request", secret, framed, key, method, url, body, *lines)


def line(kind, *values):
    return " ".join([kind, *(value.hex() or "-" for value in values)])


def main():
    for length, expected in PUBLISHED.items():
        assert siphash_2_4_128(COUNTING, bytes(range(length))).hex() == expected
    text = "\n".join(vectors()) + "\n"
    if sys.argv[1:] == ["--check"]:
        kept = pathlib.Path(__file__).with_name("fingerprint.txt").read_text(encoding="ascii")
        if kept != text:
            sys.exit("fingerprint.txt is not what reference.py prints")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
