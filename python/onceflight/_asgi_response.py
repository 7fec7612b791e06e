"""An application's response, whole: all that it says, before anything is sent."""

from __future__ import annotations

import io
from typing import Any, Awaitable, Callable, MutableMapping, Optional

from ._http_middleware import Answer
from ._http_record import Headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Collector:
    """What an application speaks to in the server's place."""

    def __init__(self) -> None:
        self._code = 0
        self._headers: Optional[Headers] = None  # None: it hasn't begun
        self._body = io.BytesIO()
        self._awaited = "http.response.start"

    def take(self, message: Message) -> Optional[Answer]:
        """The response, with its last message."""
        if message["type"] != self._awaited:
            raise RuntimeError(f"the application sent {message['type']}, not {self._awaited}")
        if self._headers is None:
            self._code = message["status"]
            self._headers = [
                (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
                for name, value in message.get("headers", ())
            ]
            self._awaited = "http.response.body"
            return None
        self._body.write(message.get("body", b""))
        if message.get("more_body", False):
            return None
        self._awaited = "nothing more"
        return Answer(self._code, self._headers, self._body.getvalue())


async def tell(answer: Answer, method: str, send: Send) -> None:
    answer = answer.framed(method)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
