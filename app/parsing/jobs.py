"""Interface for running pure functions over untrusted content: small content at once, large content elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeVar

from app.errors import ClientLeft

SMALL_BYTES = 32 * 1024
"""Content up to this size is parsed in the event loop, which takes at most 15 ms."""

P = ParamSpec("P")
T = TypeVar("T")


class Parsers(Protocol):
    """Runs functions over content. Capacity is shared fairly between keys; a key is an account."""

    async def run(self, key: str, size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, a module-level function. Raises TooComplex, and RateLimited if too many jobs wait."""
        ...


class InThreads:
    """Runs functions without processes, for CLI commands and tests."""

    async def run(self, key: str, size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG002 - threads are not shared by key
        if size_bytes <= SMALL_BYTES:
            return work(*args, **kwargs)
        return await asyncio.to_thread(work, *args, **kwargs)


IN_THREADS = InThreads()

client_leaves: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("client_leaves", default=None)
"""In an HTTP request, a function that returns when the client has closed the connection."""


async def unless_client_leaves(work: Awaitable[T]) -> T:
    """The result of `work`. If the client leaves first, cancels `work` and raises ClientLeft."""
    leaves = client_leaves.get()
    task = asyncio.ensure_future(work)
    watcher = None if leaves is None else asyncio.ensure_future(leaves())
    try:
        await asyncio.wait([task] if watcher is None else [task, watcher], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        tasks = [task] if watcher is None else [task, watcher]
        for unfinished in tasks:
            unfinished.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
