"""An application's response, whole: all that it says, before anything is sent."""

from __future__ import annotations

import io
from http.client import responses
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple
from wsgiref.util import FileWrapper

from ._http_middleware import Answer
from ._http_record import Headers

Environ = Dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


def tell(answer: Answer, environ: Environ, start_response: StartResponse) -> List[bytes]:
    answer = answer.framed(environ["REQUEST_METHOD"])
    reason = answer.reason or responses.get(answer.code, "Unknown")
    start_response(f"{answer.code} {reason}", answer.headers)
    return [answer.body]


def collect(app: App, environ: Environ) -> Answer:
    """Calls an application, and closes what it returned."""
    environ["wsgi.file_wrapper"] = FileWrapper  # the server's own may be for sending alone
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

    def whole(self) -> Answer:
        status, headers = self._started()
        return Answer(int(status[:3]), headers, self._body.getvalue(), status[4:])

    def _started(self) -> Tuple[str, Headers]:
        if self._head is None:
            raise AssertionError("the application hasn't called start_response")
        return self._head
