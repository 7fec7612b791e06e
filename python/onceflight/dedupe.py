"""``@dedupe``: concurrent calls of a function with the same key become one call."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, TypeVar, cast

from ._native import Key, to_key
from .table import Table

if TYPE_CHECKING:
    from ._records import Serializer

F = TypeVar("F", bound=Callable[..., Any])


def dedupe(
    table: Table,
    *,
    key: Callable[..., Key],
    scope: Optional[str] = None,
    timeout: Optional[float] = None,
    ttl: Optional[float] = None,
    lease: Optional[float] = None,
    serializer: Optional[Serializer] = None,
) -> Callable[[F], F]:
    """For functions and coroutine functions, methods included.

    ``key`` takes the call's own arguments and names the call; whatever the result depends on
    belongs in it. ``scope`` keeps functions that share a table apart; it is the function's module
    and qualified name unless given, and ``scope=""`` makes the table's key the key alone, as
    ``table.forget`` takes it. The other options are those of ``Table.run``.
    """

    def decorate(fn: F) -> F:
        prefix = f"{fn.__module__}.{fn.__qualname__}\0" if scope is None else f"{scope}\0" if scope else ""
        options: Dict[str, Any] = {"timeout": timeout, "ttl": ttl, "lease": lease, "serializer": serializer}

        def name(args: Any, kwargs: Any) -> bytes:
            return prefix.encode() + to_key(key(*args, **kwargs))

        if inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def once_async(*args: Any, **kwargs: Any) -> Any:
                return await table.aio.run(name(args, kwargs), lambda: fn(*args, **kwargs), **options)

            return cast(F, once_async)

        @functools.wraps(fn)
        def once(*args: Any, **kwargs: Any) -> Any:
            return table.run(name(args, kwargs), lambda: fn(*args, **kwargs), **options)

        return cast(F, once)

    return decorate
