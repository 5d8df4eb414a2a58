"""How callers run a pure function over strangers' content: small content at once, large content elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeVar

from app.errors import ClientLeft

SMALL_BYTES = 32 * 1024
"""Up to this size content is parsed in the event loop, which takes 15 ms at worst."""

P = ParamSpec("P")
T = TypeVar("T")


class Parsers(Protocol):
    """Runs functions over content. `key` names who shares a fair part of the work: an account."""

    async def run(self, key: str, size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a module's function. TooComplex, RateLimited when too much waits."""
        ...


class InThreads:
    """Without processes: for single commands and tests."""

    async def run(self, key: str, size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG002 - threads are not shared out
        if size_bytes <= SMALL_BYTES:
            return work(*args, **kwargs)
        return await asyncio.to_thread(work, *args, **kwargs)


IN_THREADS = InThreads()

client_leaves: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("client_leaves", default=None)
"""Set for an HTTP request: a function that returns when the client has closed the connection."""


async def unless_client_leaves(work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled as soon as the client has left. ClientLeft."""
    leaves = client_leaves.get()
    task = asyncio.ensure_future(work)
    watcher = None if leaves is None else asyncio.ensure_future(leaves())
    try:
        await asyncio.wait([task] if watcher is None else [task, watcher], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        for item in (task, watcher):
            if item is not None and not item.done():
                item.cancel()
        await asyncio.gather(*(item for item in (task, watcher) if item is not None), return_exceptions=True)
