"""``Idempotency-Key`` for any WSGI application: Flask, Django, and whatever else speaks WSGI.

app = Idempotency(app, "sqlite:/var/lib/shop/once.db")

A client that sends a request again, with the same key, gets the response of the first one, whatever happened
to either. The header is that of the IETF's draft (draft-ietf-httpapi-idempotency-key-header), the problem
bodies those of RFC 9457.

| a request with a key | answer |
|-|-|
| the first | the application's |
| again, same payload, done | the same, with ``Idempotent-Replayed: true`` |
| again, same payload, in progress | the same, once it is there; past the wait 409 and ``Retry-After`` |
| again, other payload | 422, in progress or not |
| again, and the response was too large to keep | 409, of a type of its own |
| again, and whether it was executed can't be told (``on_lease_expired="hold"``) | 409, of a type of its own |
| no key where there must be one; a key that can't be used | 400 |
| longer than is fingerprinted | 413 |
| the store is down | 503, and nothing is executed |

| what the application answers | those who wait | the key from then on |
|-|-|-|
| 2xx, 3xx, 4xx | get it | replays it |
| 401, 403, 408, 425, 429, 503: nothing happened | get it | free |
| any other 5xx | get it | the next leads, with attempt + 1; held, by policy |
| it raises | the next leads | the same |

The response of a request with a key is whole before the client has any of it: a record comes first. What has
no key passes through untouched.

Processes: the table is opened by the first request that needs it, in the process that serves it. So a server
may fork its workers when it likes (gunicorn, with or without ``--preload``; uWSGI), as long as no request is
served before the fork.
"""

from __future__ import annotations

import inspect
import io
import itertools
import logging
import math
import os
import warnings
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Dict, FrozenSet, Iterable, NamedTuple, Optional, Tuple, Union
from wsgiref.util import FileWrapper

from . import _http_problem as problem
from ._http_key import BadKey, parse
from ._http_record import NOT_KEPT, Corrupt, NotKept, decode, encode
from ._wsgi_response import App, Environ, StartResponse, Whole, collect, status_line
from .errors import OnceflightError, StoreFailed, TooLarge
from .fingerprint import fingerprint
from .outcome import Lead, Response
from .table import Table

__all__ = ["EXECUTION", "Execution", "Idempotency", "Keep", "Requirement", "authorization"]

EXECUTION = "onceflight.execution"
"""Where an application finds its Execution, in the environ."""

REPLAYED = "Idempotent-Replayed"
"""What marks a response that was given before."""

PASSING = frozenset(
    "connection content-length date idempotent-replayed keep-alive proxy-authenticate te trailer"
    " transfer-encoding upgrade".split()
)
"""Headers that are of the connection or of the moment."""

DISABLED = "Idempotency-Keys are disabled: every request is executed, a retry too. This is for tests."

DAY = 24 * 3600.0

_log = logging.getLogger(__name__)


class Requirement(Enum):
    """Whether a request has to carry a key."""

    OFF = "off"
    """A key is ignored."""
    OPTIONAL = "optional"
    """A key is honoured."""
    REQUIRED = "required"
    """Without a key: 400."""

    @classmethod
    def usual(cls, method: str, path: str = "") -> Requirement:
        """Required of POST and PATCH, honoured on PUT and DELETE, off for the rest."""
        if method in ("POST", "PATCH"):
            return cls.REQUIRED
        return cls.OPTIONAL if method in ("PUT", "DELETE") else cls.OFF


class Keep(Enum):
    """What a response says of the request's effects, and so what becomes of the key."""

    RESPONSE = "response"
    """It was executed: the response is kept, and replayed."""
    NOTHING_HAPPENED = "nothing happened"
    """It wasn't executed: the key is free again."""
    MAY_HAVE_HAPPENED = "may have happened"
    """The next attempt takes over, or is held, by the table's policy."""

    @classmethod
    def usual(cls, status: int) -> Keep:
        """By the status alone: see the table at the top."""
        if status in (401, 403, 408, 425, 429, 503):
            return cls.NOTHING_HAPPENED
        return cls.MAY_HAVE_HAPPENED if status >= 500 else cls.RESPONSE


@dataclass(frozen=True)
class Execution:
    """What an application may want to know of its execution: ``environ[EXECUTION]``."""

    key: str
    """The client's key, unquoted: send it, or what is derived from it, downstream."""
    fence: int
    """Grows with every execution of the key: a resource downstream can refuse a lower one."""
    attempt: int
    """1; more if an earlier execution was lost."""
    checkpoint: Optional[bytes]
    """What an earlier execution left for this one."""
    _lead: Optional[Lead] = field(default=None, repr=False, compare=False)

    def set_checkpoint(self, data: bytes) -> None:
        """Leaves bytes for the next execution of the key, in place of those before: should this one be
        lost, or be answered with what isn't kept, the next one finds them as its ``checkpoint``. They say
        that something happened: the key is bound to its payload from then on, whatever the answer is.

        ``Stale``: the request was answered, or another execution took over. With keys disabled nothing
        is left.
        """
        if self._lead is not None:
            self._lead.checkpoint(data)


_fences = itertools.count(1)  # fences where no store counts them


def authorization(environ: Environ) -> bytes:
    """The header that tells who calls."""
    return str(environ.get("HTTP_AUTHORIZATION", "")).encode("latin-1")


def whole_body(environ: Environ, body: bytes) -> bytes:
    return body


class Refused(Exception):
    def __init__(self, problem: problem.Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


class Keyed(NamedTuple):
    """What a request is known by."""

    key: str
    name: str
    """In the table: whose key it is, hashed, and the key. Printable, for operators."""
    fingerprint: bytes


class Idempotency:
    """An application whose requests with the same ``Idempotency-Key`` are executed once.

    | option | default |
    |-|-|
    | ``require(method, path)`` | required of POST and PATCH; a key on PUT and DELETE is honoured |
    | ``lenient_keys`` | off: a key is a quoted string (RFC 8941) |
    | ``principal(environ)``: who calls; another has other keys | the ``Authorization`` header |
    | ``payload(environ, body)``: what says "the same payload", beside the query | the body |
    | ``keep(status)`` | ``Keep.usual`` |
    | ``strip``: names of headers that aren't kept | what is of the connection, ``Date``, ``Content-Length`` |
    | ``wait``: seconds a request waits for another with its key; 0: it is answered 409 at once | 10 |
    | ``retry_after``: seconds that a client is told to wait | 1 |
    | ``max_request``: the longest body of a request with a key, in bytes | 16 MiB |
    | ``successes``: what a 2xx is told as at first, and when it is told again | as it is |
    | ``secret``: 16 bytes to hash callers and payloads with, the same in all processes | a public one |
    | ``problems``, ``docs``: what the type of a problem begins with; where clients read about keys | |
    | ``disabled``: for tests that want no keys | no |

    What remains is given to the ``Table``: ``completed_ttl`` (a day), ``lease``, ``max_response_len``,
    ``on_lease_expired``, ``store_timeout``, ... What fails at the store is logged as ``onceflight.wsgi``.

    With ``disabled=True`` every request is executed, no store is opened, nothing is kept, and no key is
    missed or refused. The application finds an ``Execution`` where it otherwise would: the first one, of
    the request's key or a made-up one. It warns of that once. It takes a line of code, and no environment
    variable, so that no setting can quietly take the safety from a server.
    """

    def __init__(
        self,
        app: App,
        url: str,
        *,
        require: Callable[[str, str], Requirement] = Requirement.usual,
        lenient_keys: bool = False,
        principal: Callable[[Environ], Union[str, bytes]] = authorization,
        payload: Callable[[Environ, bytes], Union[str, bytes]] = whole_body,
        keep: Callable[[int], Keep] = Keep.usual,
        strip: Iterable[str] = (),
        wait: float = 10,
        retry_after: float = 1,
        max_request: int = 16 << 20,
        successes: Optional[Tuple[int, int]] = None,
        secret: Optional[bytes] = None,
        problems: str = "urn:onceflight:problem:",
        docs: Optional[str] = None,
        disabled: bool = False,
        **table: Any,
    ) -> None:
        if disabled:
            warnings.warn(DISABLED, stacklevel=2)
        table.setdefault("completed_ttl", DAY)  # in memory too
        inspect.signature(Table).bind(url, **table)  # now, not at the first request
        self._app = app
        self._open: Callable[[], Table] = lambda: Table(url, **table)
        self._tables: Dict[int, Table] = {}
        self._require = require
        self._lenient = lenient_keys
        self._principal, self._payload, self._secret = principal, payload, secret
        self._keep = keep
        self._stripped: FrozenSet[str] = PASSING.union(name.lower() for name in strip)
        self._wait, self._retry_after = wait, retry_after
        self._max_request = max_request
        self._successes = successes
        self._problems, self._docs = problems, docs
        self._disabled = disabled

    @classmethod
    def created_then_ok(cls, app: App, url: str, **options: Any) -> Idempotency:
        """201 for a success at first and 200 when it is told again; 409 at once for what is in progress;
        400 without a key, whatever the method."""

        def require(method: str, path: str) -> Requirement:
            off = Requirement.usual(method) is Requirement.OFF
            return Requirement.OFF if off else Requirement.REQUIRED

        return cls(app, url, **{"require": require, "wait": 0, "successes": (201, 200), **options})

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            keyed = self._identify(environ)
            if keyed is not None:
                answer = self._answer(environ, keyed)
            elif self._disabled and EXECUTION in environ:
                answer = self._tell_as(0, collect(self._app, environ))
            else:
                return self._app(environ, start_response)
        except Refused as refused:
            answer = self._refusal(refused.problem)
        return answer.send(environ, start_response)

    @property
    def table(self) -> Table:
        """This process's table. One that a parent opened stays the parent's."""
        process = os.getpid()
        table = self._tables.get(process)
        if table is None:
            opened = self._open()
            table = self._tables.setdefault(process, opened)  # no lock, which a fork could find locked
            if table is not opened:
                opened.close()
        return table

    def _identify(self, environ: Environ) -> Optional[Keyed]:
        """What a request is known by. None: it goes without."""
        method = environ["REQUEST_METHOD"]
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        requirement = self._require(method, path)
        if requirement is Requirement.OFF:
            return None
        header = environ.get("HTTP_IDEMPOTENCY_KEY")
        if header is None and requirement is Requirement.OPTIONAL:
            return None
        if self._disabled:
            environ[EXECUTION] = self._unrecorded(header)
            return None
        if header is None:
            raise Refused(problem.KEY_MISSING)
        try:
            key = parse(header, self._lenient)
        except BadKey as why:
            raise Refused(problem.key_invalid(why)) from None
        body = self._read(environ)
        query = environ.get("QUERY_STRING", "").encode("latin-1")
        payload = b"payload", b"?" if query else b"", query, self._payload(environ, body)
        return Keyed(
            key,
            self.name_of(key, path, method=method, principal=self._principal(environ)),
            fingerprint(*payload, secret=self._secret),
        )

    def name_of(
        self, key: str, path: str, *, method: str = "POST", principal: Union[str, bytes] = b""
    ) -> str:
        """For operators: what a caller's key for this method and path is called in the store, where its
        scope is empty: ``onceflight inspect --store URL --scope "" --key NAME``. A path as WSGI has it."""
        scope = b"scope", principal, method, path.encode("latin-1")
        return fingerprint(*scope, secret=self._secret).hex() + key

    def _unrecorded(self, header: Optional[str]) -> Execution:
        """With keys disabled: what an application finds that expects an execution."""
        fence = next(_fences)
        try:
            key = parse(header or "", self._lenient)
        except BadKey:  # one that nobody else has: what is sent downstream with it isn't taken for the same
            key = f"disabled-{fence}"
        return Execution(key, fence, 1, None)

    def _read(self, environ: Environ) -> bytes:
        """The body, which is left for the application to read again."""
        length, most = environ.get("CONTENT_LENGTH"), self._max_request
        if length:
            size = int(length) if length.isdigit() else -1
            if size > most:
                raise Refused(problem.request_too_large(size, most))
            body = _read_up_to(environ["wsgi.input"], size)
            if len(body) != size:
                raise Refused(problem.REQUEST_INCOMPLETE)
        elif environ.get("wsgi.input_terminated"):
            body = _read_up_to(environ["wsgi.input"], most + 1)
            if len(body) > most:
                raise Refused(problem.request_too_large(f"more than {most}", most))
        elif "HTTP_TRANSFER_ENCODING" in environ:
            raise Refused(problem.LENGTH_REQUIRED)  # this server can't tell where it ends
        else:
            body = b""
        environ["wsgi.input"] = io.BytesIO(body)
        environ["wsgi.input_terminated"] = True
        environ["CONTENT_LENGTH"] = str(len(body))
        return body

    def _answer(self, environ: Environ, keyed: Keyed) -> Whole:
        try:
            table = self.table
        except StoreFailed as error:  # any other is a mistake of who set it up, and raised
            raise Refused(self._told(error)) from error
        try:
            # The same thread: a request that waits for itself is told so, whatever threads are here.
            begun = table.begin(
                keyed.name, fingerprint=keyed.fingerprint, timeout=self._wait, same_thread=True
            )
            details = begun.details() if isinstance(begun, Lead) else None
        except OnceflightError as error:
            raise Refused(self._told(error)) from error
        if isinstance(begun, Response):
            return self._replay(begun)
        if not isinstance(begun, Lead) or details is None:
            # BYPASS, which isn't ours: a table of the same keys that declines leaves nothing to answer with.
            raise Refused(problem.IN_PROGRESS)
        with begun:  # what it raises abandons
            environ[EXECUTION] = Execution(keyed.key, *details, begun)
            environ["wsgi.file_wrapper"] = FileWrapper  # the server's own may be for sending alone
            response = self._tell_as(0, collect(self._app, environ))
            # Whatever fails here, the client has its response: what the store couldn't be told is given
            # up, so that the next attempt knows that there was one.
            try:
                self._settle(begun, response)
            except OnceflightError as error:
                _log.error("the response to a request isn't kept: %s", error)
        return response

    def _settle(self, lead: Lead, response: Whole) -> None:
        code = response.code
        kept = [pair for pair in response.headers if pair[0].lower() not in self._stripped]
        endings: Dict[Keep, Tuple[Callable[[bytes, int], None], Callable[[], None]]] = {
            Keep.RESPONSE: (lead.complete, lambda: lead.complete(NOT_KEPT, code)),
            Keep.NOTHING_HAPPENED: (lead.cancel_with, lead.cancel),
            Keep.MAY_HAVE_HAPPENED: (lead.abandon_with, lead.abandon),
        }
        settle, without = endings[self._keep(code)]
        try:
            settle(encode(kept, response.body), code)
        except TooLarge:
            without()

    def _replay(self, kept: Response) -> Whole:
        code = kept.status
        try:
            if not 100 <= code <= 999:
                raise Corrupt
            headers, body = decode(kept.data)
        except NotKept:
            raise Refused(problem.response_not_kept(code)) from None
        except Corrupt:
            raise Refused(problem.RECORD_CORRUPT) from None
        return self._tell_as(1, Whole(status_line(code), [*headers, (REPLAYED, "true")], body))

    def _tell_as(self, which: int, response: Whole) -> Whole:
        if self._successes is None or not 200 <= response.code <= 299:
            return response
        return response._replace(status=status_line(self._successes[which]))

    def _told(self, error: OnceflightError) -> problem.Problem:
        told = problem.of(error)
        if told is problem.UNAVAILABLE:
            _log.error("a request is refused: %s", error)
        return told

    def _refusal(self, refused: problem.Problem) -> Whole:
        headers = [("Content-Type", "application/problem+json")]
        if refused.passes:
            headers.append(("Retry-After", str(max(1, math.ceil(self._retry_after)))))
        if self._docs is not None:
            headers.append(("Link", f'<{self._docs}>; rel="help"'))
        return Whole(status_line(refused.status), headers, refused.body(self._problems))


def _read_up_to(source: Any, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        piece = source.read(size - len(body))
        if not piece:
            break
        body += piece
    return bytes(body)
