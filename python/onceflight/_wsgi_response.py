"""An application's response, whole: all that it says, before anything is sent."""

from __future__ import annotations

import io
from http.client import responses
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from ._http_record import Headers

Environ = Dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class Whole(NamedTuple):
    status: str
    headers: Headers
    body: bytes

    @property
    def code(self) -> int:
        return int(self.status[:3])

    def send(self, environ: Environ, start_response: StartResponse) -> List[bytes]:
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        headers = self.headers
        bodiless = is_head or self.code < 200 or self.code in (204, 304)
        if not bodiless and all(name.lower() != "content-length" for name, _ in headers):
            headers = [*headers, ("Content-Length", str(len(self.body)))]
        start_response(self.status, headers)
        return [] if is_head else [self.body]


def status_line(code: int) -> str:
    return f"{code} {responses.get(code, 'Unknown')}"


def collect(app: App, environ: Environ) -> Whole:
    """Calls an application, and closes what it returned."""
    collector = Collector()
    pieces = app(environ, collector.start_response)
    try:
        for piece in pieces:
            collector.write(piece)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    return collector.whole()


class Collector:
    """What an application speaks to in the server's place."""

    def __init__(self) -> None:
        self._head: Optional[Tuple[str, Headers]] = None
        self._body = io.BytesIO()

    def start_response(
        self, status: str, headers: Headers, exc_info: Optional[Tuple[Any, Any, Any]] = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._body.tell():  # to a server its head would be sent by now
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # else this frame holds itself
        elif self._head is not None:
            raise AssertionError("start_response was called before, and without exc_info")
        self._head = status, list(headers)
        return self.write

    def write(self, piece: bytes) -> None:
        self._started()
        self._body.write(piece)

    def whole(self) -> Whole:
        return Whole(*self._started(), self._body.getvalue())

    def _started(self) -> Tuple[str, Headers]:
        if self._head is None:
            raise AssertionError("the application hasn't called start_response")
        return self._head
