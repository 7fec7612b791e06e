"""The ``Idempotency-Key`` header: a String of RFC 8941, or, if that is allowed, a bare token."""

from __future__ import annotations

import re

LONGEST = 255  # characters, unquoted

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-+\--\[\]-~]+")  # printable, without `"`, `,` and `\`


class BadKey(ValueError):
    """It can't be used; its text says why."""


def parse(header: str, lenient: bool) -> str:
    """The key, unquoted. One that can't be used is a BadKey, never ignored."""
    header = header.strip(" \t")
    key = _unquote(header) if header.startswith('"') or not lenient else _bare(header)
    if not key:
        raise BadKey("the key is empty")
    if len(key) > LONGEST:
        raise BadKey(f"the key has more than {LONGEST} characters")
    return key


def _unquote(header: str) -> str:
    """RFC 8941, section 4.2.5. Parameters aren't taken: none is defined."""
    if not header.startswith('"'):
        raise BadKey('the key isn\'t quoted: Idempotency-Key: "..."')
    found = _QUOTED.match(header)
    if found is None:
        raise BadKey(_fault(header[1:]))
    behind = header[found.end() :]
    if behind.startswith(","):  # servers join several headers
        raise BadKey("there is more than one Idempotency-Key")
    if behind:
        raise BadKey("there is something behind the key's closing quote")
    return re.sub(r"\\(.)", r"\1", found[1])


def _fault(quoted: str) -> str:
    """What is wrong first with a key that doesn't come to its closing quote."""
    rest = quoted[len(re.match(r'(?:[ !#-\[\]-~]|\\["\\])*', quoted)[0]) :]  # type: ignore[index]
    if not rest:
        return "the key's closing quote is missing"
    if rest.startswith("\\"):
        return 'in a key, only \\" and \\\\ are escapes'
    return "the key has characters other than printable ASCII"


def _bare(token: str) -> str:
    if "," in token:
        raise BadKey("there is more than one Idempotency-Key")
    if '"' in token or "\\" in token:
        raise BadKey("a key with quotes or backslashes has to be quoted")
    if token and not _BARE.fullmatch(token):
        raise BadKey("a key without quotes has printable ASCII only, and no spaces")
    return token
