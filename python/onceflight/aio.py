"""The table for asyncio: no thread waits, the loop watches the event queue's file descriptor."""

from __future__ import annotations

import asyncio
import itertools
from ctypes import byref
from typing import TYPE_CHECKING, Awaitable, Callable, Dict, Optional, TypeVar, cast

from . import _native
from ._edges import Place
from ._native import Bytes, Key, Queue, check, describe, failure, quick, to_key
from ._objects import Link, Outcome
from ._records import read, record, record_failure, written
from ._request import make_request
from ._work import done, failed
from .errors import WouldDeadlock, error_for
from .outcome import NOTHING, Begun, Bypass, Grant, Lead

if TYPE_CHECKING:
    from ._records import Serializer
    from .table import Table

T = TypeVar("T")


class AsyncTable:
    """``table.aio``: the same keys and outcomes, awaited. Works with any number of event loops."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def run(
        self,
        key: Key,
        fn: Callable[[], Awaitable[T]],
        *,
        timeout: Optional[float] = None,
        ttl: Optional[float] = None,
        lease: Optional[float] = None,
        fingerprint: Optional[Bytes] = None,
        serializer: Optional[Serializer] = None,
    ) -> T:
        """Awaits fn(), or the task or thread that is doing so; all get the one object.

        A task that is cancelled while it waits leaves the line, and the flight goes on. A task that
        is cancelled while it leads abandons: the next in line awaits its own fn. Over a store as
        ``Table.run``; threads of the loop's executor wait for it, not the loop.
        """
        table, pump = self._table, self._pump()
        name = to_key(key)
        request = make_request(name, timeout, ttl, lease, fingerprint, 0)
        if table._durable:
            return await self._run_recorded(name, request, fn, serializer or table._serializer)
        ttl_ms = table._ttl_ms if request.ttl_ms == _native.DEFAULT else request.ttl_ms
        objects, missed = table._objects, 0
        link: Optional[Link] = objects.enter(name)
        begun: Optional[Begun] = None
        outcome: Optional[Outcome] = None
        try:
            while True:
                pump.refuse_own(name, request)
                # The lead is settled on this thread: to block it on this key would be for ever.
                begun = await pump.begin(table, request, (id(table), name))
                if isinstance(begun, Lead):
                    return await pump.call(table, begun, name, ttl_ms, fn)
                if isinstance(begun, Bypass):
                    return await fn()
                lead = objects.lead_of(begun.data)
                if not lead:
                    return cast(T, begun)
                outcome = objects.find(name, link, lead)
                if outcome is not None:
                    return cast(T, outcome.take())
                if lead == missed:
                    table.forget(name)  # evicted on this side only: see _objects
                missed = lead
        finally:
            del begun, outcome  # see Table._follow
            link = None
            objects.leave(name)

    async def _run_recorded(
        self, name: bytes, request: _native.Request, fn: Callable[[], Awaitable[T]], serializer: Serializer
    ) -> T:
        table, pump = self._table, self._pump()
        link: Optional[Link] = table._objects.enter(name)
        try:
            pump.refuse_own(name, request)
            begun = await pump.begin(table, request, (id(table), name))
            if isinstance(begun, Lead):
                return await pump.call_recorded(table, begun, name, fn, serializer)
            if isinstance(begun, Bypass):
                return await fn()
            value: T = read(table, name, begun, link, serializer)
            return value
        finally:
            link = None
            table._objects.leave(name)

    async def begin(
        self,
        key: Key,
        *,
        timeout: Optional[float] = None,
        ttl: Optional[float] = None,
        lease: Optional[float] = None,
        fingerprint: Optional[Bytes] = None,
        recover: bool = False,
    ) -> Begun:
        """``Table.begin``, awaited. Over a store the lead's own methods wait for the store: call them in a
        thread (``asyncio.to_thread(lead.complete, data)``) where the loop mustn't."""
        flags = _native.RECOVER if recover else 0
        request = make_request(to_key(key), timeout, ttl, lease, fingerprint, flags)
        return await self._pump().begin(self._table, request)

    def _pump(self) -> Pump:
        loop = asyncio.get_running_loop()
        pump = self._table._pumps.get(loop)
        if pump is None:
            pump = self._table._pumps[loop] = Pump()
        return pump


class Pump:
    """One queue for a table and a loop. Its descriptor is watched only while somebody waits, so that
    neither an idle table nor a closed one leaves anything in the loop."""

    def __init__(self) -> None:
        self._queue = Queue()
        self._tags = itertools.count(1)
        self._waits: Dict[int, asyncio.Future[Grant]] = {}
        self.leading: Dict[bytes, asyncio.Task[object]] = {}

    def refuse_own(self, name: bytes, request: _native.Request) -> None:
        """A task can't wait for itself. Nobody looks for rings of several tasks."""
        if request.timeout_ms and self.leading.get(name) is asyncio.current_task():
            raise error_for(WouldDeadlock.code, describe(WouldDeadlock.code))

    async def begin(self, table: Table, request: _native.Request, place: Optional[Place] = None) -> Begun:
        grant = table._take()
        grant.place = place
        tag = next(self._tags)
        code = check(
            quick.begin_async(
                table._core.pointer, byref(request), self._queue._pointer, tag,
                grant.lead_out, grant.response_out,
            )
        )  # fmt: skip
        if code == _native.PENDING:
            grant.spare(table._spares)
            grant = await self._wait(table, tag)
            grant.place = place
            code = grant.event.outcome
        return grant.outcome(table, code)

    async def call(
        self, table: Table, lead: Lead, name: bytes, ttl_ms: int, fn: Callable[[], Awaitable[T]]
    ) -> T:
        task, grant = asyncio.current_task(), lead._grant
        assert task is not None and grant is not None
        number = grant.event.lead
        self.leading[name] = task
        try:
            if ttl_ms:
                table._objects.attach(name, number)
            try:
                value = await fn()
            except Exception as error:
                failed(table, grant, name, number, error)
                raise
            done(table, grant, name, number, ttl_ms, value)
            return value
        finally:
            if self.leading.get(name) is task:
                del self.leading[name]
            if ttl_ms:
                table._objects.detach(name, number)
            grant.drop()
            grant.settled()  # done and failed leave the edge
            del task

    async def call_recorded(
        self, table: Table, lead: Lead, name: bytes, fn: Callable[[], Awaitable[T]], serializer: Serializer
    ) -> T:
        loop, task, grant = asyncio.get_running_loop(), asyncio.current_task(), lead._grant
        assert task is not None and grant is not None
        self.leading[name] = task
        try:
            try:
                value, data = written(await fn(), serializer)
            except Exception as error:
                await loop.run_in_executor(None, record_failure, table, grant, name, error)
                raise
            await loop.run_in_executor(None, record, grant, value, data)
            return value
        finally:
            if self.leading.get(name) is task:
                del self.leading[name]
            if grant.state == NOTHING:
                grant.settled()
            else:  # cancelled; and if it is being completed right now, that comes first
                loop.run_in_executor(None, grant.drop)
            del task

    async def _wait(self, table: Table, tag: int) -> Grant:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Grant] = loop.create_future()
        if not self._waits:
            loop.add_reader(self._queue.fd, self._drain, table)
        self._waits[tag] = future
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled() and not future.exception():
                future.result().drop()  # cancelled after the event was read: pass a lead on at once
            raise
        finally:
            if self._waits.pop(tag, None) is not None:
                self._queue.leave(tag)
            if not self._waits and not loop.is_closed():
                loop.remove_reader(self._queue.fd)
            del future

    def _drain(self, table: Table) -> None:
        while True:
            grant = table._take()
            if not self._queue.next(grant.event, 0):
                grant.spare(table._spares)
                return
            future = self._waits.pop(grant.event.tag, None)
            if future is None or future.done():
                grant.drop()  # its task was cancelled in this turn of the loop
            elif grant.event.outcome < 0:
                future.set_exception(failure(grant.event.outcome))
                grant.spare(table._spares)
            else:
                future.set_result(grant)
