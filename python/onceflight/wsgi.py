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

import io
import logging
from typing import Any, Callable, Iterable, Optional, Union

from . import _http_problem as problem
from ._http_middleware import EXECUTION, Answer, Execution, Keep, Keyed, Middleware, Refused, Requirement
from ._wsgi_response import App, Environ, StartResponse, collect, tell
from .errors import OnceflightError

__all__ = ["EXECUTION", "Execution", "Idempotency", "Keep", "Requirement", "authorization"]


def authorization(environ: Environ) -> bytes:
    """The header that tells who calls."""
    return str(environ.get("HTTP_AUTHORIZATION", "")).encode("latin-1")


class Idempotency(Middleware[App, Environ]):
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

    _log = logging.getLogger(__name__)

    def __init__(
        self,
        app: App,
        url: str,
        *,
        principal: Callable[[Environ], Union[str, bytes]] = authorization,
        **options: Any,
    ) -> None:
        super().__init__(app, url, principal=principal, **options)

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
        return tell(answer, environ, start_response)

    def _identify(self, environ: Environ) -> Optional[Keyed]:
        """What a request is known by. None: it goes without."""
        method = environ["REQUEST_METHOD"]
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        key = self._key(method, path, environ.get("HTTP_IDEMPOTENCY_KEY"))
        if isinstance(key, Execution):
            environ[EXECUTION] = key
        if not isinstance(key, str):
            return None
        body = self._read(environ)
        query = environ.get("QUERY_STRING", "").encode("latin-1")
        return self._keyed(environ, key, method, path.encode("latin-1"), query, body)

    def _read(self, environ: Environ) -> bytes:
        """The body, which is left for the application to read again."""
        length = environ.get("CONTENT_LENGTH")
        if length:
            size = self._length(length)
            body = _read_up_to(environ["wsgi.input"], size)
            if len(body) != size:
                raise Refused(problem.REQUEST_INCOMPLETE)
        elif environ.get("wsgi.input_terminated"):
            body = _read_up_to(environ["wsgi.input"], self._max_request + 1)
            if len(body) > self._max_request:
                raise self._endless()
        elif "HTTP_TRANSFER_ENCODING" in environ:
            raise Refused(problem.LENGTH_REQUIRED)  # this server can't tell where it ends
        else:
            body = b""
        environ["wsgi.input"] = io.BytesIO(body)
        environ["wsgi.input_terminated"] = True
        environ["CONTENT_LENGTH"] = str(len(body))
        return body

    def _answer(self, environ: Environ, keyed: Keyed) -> Answer:
        table = self._opened()
        try:
            # The same thread: a request that waits for itself is told so, whatever threads are here.
            begun = table.begin(
                keyed.name, fingerprint=keyed.fingerprint, timeout=self._wait, same_thread=True
            )
            told = self._begun(keyed, begun)
        except OnceflightError as error:
            raise self._refused(error) from error
        if isinstance(told, Answer):
            return told
        lead, environ[EXECUTION] = told
        with lead:  # what it raises abandons
            answer = self._tell_as(0, collect(self._app, environ))
            self._record(lead, answer)
        return answer


def _read_up_to(source: Any, size: int) -> bytes:
    body = bytearray()
    while len(body) < size:
        piece = source.read(size - len(body))
        if not piece:
            break
        body += piece
    return bytes(body)
