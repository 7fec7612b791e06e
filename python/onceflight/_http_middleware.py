"""What the middlewares have in common: all but how a request is read, waits, and is answered.

Two of them over one store, whatever they speak, know a request by the same name and replay each other's
responses: scope, fingerprint and record are made here.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import os
import uuid
import warnings
from dataclasses import dataclass, field
from enum import Enum
from typing import (
    Any,
    Callable,
    ClassVar,
    Dict,
    FrozenSet,
    Generic,
    Iterable,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from . import _http_problem as problem
from ._http_key import BadKey, parse
from ._http_record import NOT_KEPT, Corrupt, Headers, NotKept, decode, encode
from .errors import OnceflightError, StoreFailed, TooLarge
from .fingerprint import fingerprint
from .outcome import Begun, Lead, Response
from .table import Table

EXECUTION = "onceflight.execution"
"""Where an application finds its Execution: in the environ, or the scope."""

REPLAYED = "Idempotent-Replayed"
"""What marks a response that was given before."""

PASSING = frozenset(
    "connection content-length date idempotent-replayed keep-alive proxy-authenticate te trailer"
    " transfer-encoding upgrade".split()
)
"""Headers that are of the connection or of the moment."""

DISABLED = "Idempotency-Keys are disabled: every request is executed, a retry too. This is for tests."

DAY = 24 * 3600.0

App = TypeVar("App")
Asked = TypeVar("Asked")  # a request, as the application sees it
Self = TypeVar("Self", bound="Middleware[Any, Any]")


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
        """By the status alone: see the table at the top of `onceflight.wsgi`."""
        if status in (401, 403, 408, 425, 429, 503):
            return cls.NOTHING_HAPPENED
        return cls.MAY_HAVE_HAPPENED if status >= 500 else cls.RESPONSE


@dataclass(frozen=True)
class Execution:
    """What an application may want to know of its execution."""

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

        ``Stale``: the request was answered, or another execution took over. With keys disabled nothing is
        left.
        """
        if self._lead is not None:
            self._lead.checkpoint(data)


_fences = itertools.count(1)  # fences where no store counts them


class Keyed(NamedTuple):
    """What a request is known by."""

    key: str
    name: str
    """In the table: whose key it is, hashed, and the key. Printable, for operators."""
    fingerprint: bytes


class Answer(NamedTuple):
    """A response, whole."""

    code: int
    headers: Headers
    body: bytes
    reason: str = ""
    """The application's own words for the code, where they are sent; they aren't kept."""

    def framed(self, method: str) -> Answer:
        """As it is sent: with its length, where there may be one."""
        if method == "HEAD":
            return self._replace(body=b"")
        bodiless = self.code < 200 or self.code in (204, 304)
        if bodiless or any(name.lower() == "content-length" for name, _ in self.headers):
            return self
        return self._replace(headers=[*self.headers, ("Content-Length", str(len(self.body)))])


class Refused(Exception):
    def __init__(self, problem: problem.Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


def whole_body(asked: Any, body: bytes) -> bytes:
    return body


class Middleware(Generic[App, Asked]):
    """Its options are told by `onceflight.wsgi.Idempotency`."""

    _log: ClassVar[logging.Logger]

    def __init__(
        self,
        app: App,
        url: str,
        *,
        principal: Callable[[Asked], Union[str, bytes]],
        require: Callable[[str, str], Requirement] = Requirement.usual,
        lenient_keys: bool = False,
        payload: Callable[[Asked, bytes], Union[str, bytes]] = whole_body,
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
            warnings.warn(DISABLED, stacklevel=3)
        table.setdefault("completed_ttl", DAY)  # in memory too; and so below
        table.setdefault("heartbeat", True)
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
    def created_then_ok(cls: Type[Self], app: App, url: str, **options: Any) -> Self:
        """201 for a success at first and 200 when it is told again; 409 at once for what is in progress;
        400 without a key for PUT and DELETE too."""

        def require(method: str, path: str) -> Requirement:
            off = Requirement.usual(method) is Requirement.OFF
            return Requirement.OFF if off else Requirement.REQUIRED

        return cls(app, url, **{"require": require, "wait": 0, "successes": (201, 200), **options})

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

    def name_of(
        self, key: str, path: Union[str, bytes], *, method: str = "POST", principal: Union[str, bytes] = b""
    ) -> str:
        """For operators: what a caller's key for this method and path is called in the store, where its scope
        is empty: ``onceflight inspect --store URL --scope "" --key NAME``. The path is without its
        percent-encoding."""
        scope = b"scope", principal, method, path
        return fingerprint(*scope, secret=self._secret).hex() + key

    def _key(self, method: str, path: str, header: Optional[str]) -> Union[str, Execution, None]:
        """The key, unquoted. None: it goes without; so does an execution, which is to be found."""
        requirement = self._require(method, path)
        if requirement is Requirement.OFF or (header is None and requirement is Requirement.OPTIONAL):
            return None
        if self._disabled:
            return self._unrecorded(header)
        if header is None:
            raise Refused(problem.KEY_MISSING)
        try:
            return parse(header, self._lenient)
        except BadKey as why:
            raise Refused(problem.key_invalid(why)) from None

    def _unrecorded(self, header: Optional[str]) -> Execution:
        """With keys disabled: what an application finds that expects an execution."""
        fence = next(_fences)
        try:
            key = parse(header or "", self._lenient)
        except BadKey:  # one that nobody else has: what is sent downstream with it isn't taken for the same
            key = f"disabled-{uuid.uuid4().hex}"
        return Execution(key, fence, 1, None)

    def _keyed(self, asked: Asked, key: str, method: str, path: bytes, query: bytes, body: bytes) -> Keyed:
        payload = b"payload", b"?" if query else b"", query, self._payload(asked, body)
        return Keyed(
            key,
            self.name_of(key, path, method=method, principal=self._principal(asked)),
            fingerprint(*payload, secret=self._secret),
        )

    def _length(self, header: str) -> int:
        """What a Content-Length says; -1 if it says nothing that can be."""
        size = int(header) if header.isdecimal() else -1
        if size > self._max_request:
            raise Refused(problem.request_too_large(size, self._max_request))
        return size

    def _endless(self) -> Refused:
        """Of a body that doesn't say how long it is."""
        return Refused(problem.request_too_large(f"more than {self._max_request}", self._max_request))

    def _opened(self) -> Table:
        try:
            return self.table
        except StoreFailed as error:  # any other is a mistake of who set it up, and raised
            raise self._refused(error) from error

    def _begun(self, keyed: Keyed, begun: Begun) -> Union[Answer, Tuple[Lead, Execution]]:
        """What there is to tell, or who is to execute it."""
        if isinstance(begun, Response):
            return self._replay(begun)
        if not isinstance(begun, Lead):
            # BYPASS, which isn't ours: a table of the same keys that declines leaves nothing to answer with.
            raise Refused(problem.IN_PROGRESS)
        return begun, Execution(keyed.key, *begun.details(), begun)

    def _record(self, lead: Lead, answer: Answer) -> None:
        """Whatever fails here, the client has its response: what the store couldn't be told is given up, so
        that the next attempt knows that there was one."""
        with lead:
            try:
                self._settle(lead, answer)
            except OnceflightError as error:
                self._log.error("the response to a request isn't kept: %s", error)

    def _settle(self, lead: Lead, answer: Answer) -> None:
        code = answer.code
        kept = [pair for pair in answer.headers if pair[0].lower() not in self._stripped]
        endings: Dict[Keep, Tuple[Callable[[bytes, int], None], Callable[[], None]]] = {
            Keep.RESPONSE: (lead.complete, lambda: lead.complete(NOT_KEPT, code)),
            Keep.NOTHING_HAPPENED: (lead.cancel_with, lead.cancel),
            Keep.MAY_HAVE_HAPPENED: (lead.abandon_with, lead.abandon),
        }
        settle, without = endings[self._keep(code)]
        try:
            settle(encode(kept, answer.body), code)
        except TooLarge:
            without()

    def _replay(self, kept: Response) -> Answer:
        code = kept.status
        try:
            if not 100 <= code <= 999:
                raise Corrupt
            headers, body = decode(kept.data)
        except NotKept:
            raise Refused(problem.response_not_kept(code)) from None
        except Corrupt:
            raise Refused(problem.RECORD_CORRUPT) from None
        return self._tell_as(1, Answer(code, [*headers, (REPLAYED, "true")], body))

    def _tell_as(self, which: int, answer: Answer) -> Answer:
        code = self._success(which, answer.code)
        return answer if code == answer.code else answer._replace(code=code, reason="")

    def _success(self, which: int, code: int) -> int:
        """What a code is told as: at first, or again."""
        return self._successes[which] if self._successes and 200 <= code <= 299 else code

    def _refused(self, error: OnceflightError) -> Refused:
        told = problem.of(error)
        if told is problem.UNAVAILABLE:
            self._log.error("a request is refused: %s", error)
        return Refused(told)

    def _refusal(self, refused: problem.Problem) -> Answer:
        headers = [("Content-Type", "application/problem+json")]
        if refused.passes:
            headers.append(("Retry-After", str(max(1, math.ceil(self._retry_after)))))
        if self._docs is not None:
            headers.append(("Link", f'<{self._docs}>; rel="help"'))
        return Answer(refused.status, headers, refused.body(self._problems))
