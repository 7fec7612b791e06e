"""``Idempotency-Key`` for any ASGI application: Starlette, FastAPI, Django, and whatever else speaks ASGI.

app = Idempotency(app, "sqlite:/var/lib/shop/once.db")

What a client sees, what becomes of a key, and the options are those of `onceflight.wsgi`: its tables hold
here. Processes of both kinds over one store replay each other's responses. WebSockets, lifespan, and requests
without a key pass through untouched.

The event loop waits for no other request and for no store: who waits has a place in the table's event queue,
and threads of the middleware's own tell the store.

| a request with a key | and so |
|-|-|
| its client leaves, or its task is cancelled, while it is executed | it is executed to the end, and kept |
| its task is cancelled while it waits for another | it leaves the line |
| its own execution sends it again | 409, once the ``wait`` is over |
| the application raises, or the loop ends, before its response is whole | the next leads |

An execution is a task of its own. It sees the context variables of its request, which doesn't see what it
sets. It hears of no disconnect before its response is whole; what it does after that (background tasks) is
its own affair. All this takes asyncio, or uvloop; not trio.

``Execution.set_checkpoint`` waits for the store: ``await asyncio.to_thread(execution.set_checkpoint, data)``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Callable, Dict, Optional, Set, Tuple, Union
from urllib.parse import unquote_to_bytes

from . import _http_problem as problem
from ._asgi_response import App, Collector, Message, Receive, Scope, Send, tell
from ._http_middleware import EXECUTION, Answer, Execution, Keep, Keyed, Middleware, Refused, Requirement
from .errors import OnceflightError, Timeout
from .outcome import Begun, Lead
from .table import Table

__all__ = ["EXECUTION", "Execution", "Idempotency", "Keep", "Requirement", "authorization"]

STORE_TIMEOUT = 5.0  # the table's default
THREADS = 8  # that wait for the store at once


def authorization(scope: Scope) -> bytes:
    """The header that tells who calls."""
    return (_header(scope, b"authorization") or "").encode("latin-1")


class Idempotency(Middleware[App, Scope]):
    """An application whose requests with the same ``Idempotency-Key`` are executed once.

    The options are those of `onceflight.wsgi.Idempotency`; ``principal`` and ``payload`` are given the scope.
    An application finds its Execution in ``scope[EXECUTION]``. What fails at the store is logged as
    ``onceflight.asgi``.
    """

    _log = logging.getLogger(__name__)

    def __init__(
        self,
        app: App,
        url: str,
        *,
        principal: Callable[[Scope], Union[str, bytes]] = authorization,
        **options: Any,
    ) -> None:
        super().__init__(app, url, principal=principal, **options)
        self._store_timeout = options.get("store_timeout") or STORE_TIMEOUT
        self._executions: Set[asyncio.Task[None]] = set()  # a loop alone doesn't keep them
        self._threads: Dict[int, ThreadPoolExecutor] = {}
        self._openings: Dict[asyncio.AbstractEventLoop, asyncio.Future[Table]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            key = self._key(scope["method"], scope["path"], _header(scope, b"idempotency-key"))
            if key is None:
                return await self._app(scope, receive, send)
            if isinstance(key, Execution):
                return await self._app({**scope, EXECUTION: key}, receive, self._unkept(send))
            body = await self._read(scope, receive)
            begun = await self._begin(self._identify(scope, key, body))
        except Refused as refused:
            begun = self._refusal(refused.problem)
        if isinstance(begun, Answer):
            await tell(begun, scope["method"], send)
        else:
            await self._lead(*begun, scope, body, send)

    def _unkept(self, send: Send) -> Send:
        async def tell_as_at_first(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "status": self._success(0, message["status"])}
            await send(message)

        return tell_as_at_first

    def _identify(self, scope: Scope, key: str, body: bytes) -> Keyed:
        raw = scope.get("raw_path")  # which servers needn't tell; `path` has lost what isn't UTF-8
        path = scope["path"].encode() if raw is None else unquote_to_bytes(raw)
        return self._keyed(scope, key, scope["method"], path, scope["query_string"], body)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        self._length(_header(scope, b"content-length") or "")
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # its client has left
                raise Refused(problem.REQUEST_INCOMPLETE)
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._max_request:
                raise self._endless()
        return bytes(body)

    async def _begin(self, keyed: Keyed) -> Union[Answer, Tuple[Lead, Execution]]:
        table = self._tables.get(os.getpid())
        if table is None:
            table = await asyncio.shield(self._opening())
        try:
            return self._begun(keyed, await self._ask(table, keyed))
        except OnceflightError as error:
            raise self._refused(error) from error

    def _opening(self) -> asyncio.Future[Table]:
        """Once for all of a loop's requests: each would take a thread, for as long as the store is away."""
        loop = asyncio.get_running_loop()
        opening = self._openings.get(loop)
        if opening is None:
            opening = self._openings[loop] = loop.run_in_executor(self._own_threads(), self._opened)
            opening.add_done_callback(lambda _: self._openings.pop(loop, None))
        return opening

    async def _ask(self, table: Table, keyed: Keyed) -> Begun:
        begin = partial(table.aio.begin, keyed.name, fingerprint=keyed.fingerprint)
        if 0 < self._wait <= self._store_timeout:
            # A wait may be over before the store has answered. So it says first whether there is what to
            # wait for, whether with this payload, or that it is away.
            try:
                return await begin(timeout=0)
            except Timeout:
                table._probed()
        return await begin(timeout=self._wait)

    async def _lead(self, lead: Lead, execution: Execution, scope: Scope, body: bytes, send: Send) -> None:
        """Executes a request in a task of its own, which isn't cancelled with this one."""
        loop = asyncio.get_running_loop()
        whole: asyncio.Future[Answer] = loop.create_future()
        extensions = scope.get("extensions") or {}
        extensions = {name: extensions[name] for name in extensions if not name.startswith("http.response.")}
        scope = {**scope, "extensions": extensions, EXECUTION: execution}
        task = loop.create_task(self._execute(lead, scope, body, whole))
        self._executions.add(task)
        task.add_done_callback(self._executions.discard)
        await asyncio.wait((task, whole), return_when=asyncio.FIRST_COMPLETED)
        if whole.done():
            await tell(whole.result(), scope["method"], send)
        await asyncio.shield(task)

    async def _execute(self, lead: Lead, scope: Scope, body: bytes, whole: asyncio.Future[Answer]) -> None:
        collector = Collector()

        async def send(message: Message) -> None:
            answer = collector.take(message)
            if answer is not None:
                answer = self._tell_as(0, answer)
                await self._aside(lead, self._record, lead, answer)
                whole.set_result(answer)

        try:
            await self._app(scope, _replaying(body, whole), send)
            if not whole.done():
                raise RuntimeError("the application returned before its response was whole")
        finally:
            if not lead.settled:
                await self._aside(lead, lead.__exit__, None, None, None)

    async def _aside(self, lead: Lead, settle: Callable[..., None], *arguments: Any) -> None:
        """Settles where the loop doesn't wait for the store."""
        if lead._table._durable:
            await asyncio.get_running_loop().run_in_executor(self._own_threads(), settle, *arguments)
        else:
            settle(*arguments)

    def _own_threads(self) -> ThreadPoolExecutor:
        """Not the loop's: those may all wait for requests to this very server, which end by a settle."""
        process = os.getpid()  # a child of a fork has none of its parent's threads
        if process not in self._threads:
            self._threads[process] = ThreadPoolExecutor(THREADS, "onceflight-asgi")
        return self._threads[process]


def _replaying(body: bytes, whole: asyncio.Future[Answer]) -> Receive:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        for message in messages:
            return message
        await asyncio.shield(whole)
        return {"type": "http.disconnect"}

    return receive


def _header(scope: Scope, name: bytes) -> Optional[str]:
    """Several of one name are joined, as in WSGI."""
    values = [value.decode("latin-1") for field, value in scope["headers"] if field == name]
    return ",".join(values) if values else None
