"""Startup that waits while the database is unavailable or a disk is full."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from functools import partial

import uvicorn

from app.api.server.config import server_config
from app.api.server.connections import Connections
from app.api.starting import create_starting_api
from app.errors import StorageFull, Unavailable
from app.mail.backoff import spread
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.telemetry import get_logger

log = get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 3.0


@asynccontextmanager
async def open_when_reachable(
    settings: Settings,
    *,
    is_serving: bool = True,
    mail_connections: int = 10_000,
    waiting: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
) -> AsyncIterator[Runtime]:
    """Like `open_runtime`, but waits without a limit while the database or a disk fails.

    `waiting()` is entered when the first attempt fails, and exited when one succeeds.
    """
    async with AsyncExitStack() as stack:
        opening = partial(open_runtime, settings, is_serving=is_serving, mail_connections=mail_connections)
        yield await _opened(opening, waiting, stack)


async def _opened(
    opening: Callable[[], AbstractAsyncContextManager[Runtime]],
    waiting: Callable[[], AbstractAsyncContextManager[object]],
    stack: AsyncExitStack,
) -> Runtime:
    pause = 0.0
    async with AsyncExitStack() as meanwhile:
        while True:
            try:
                with _disk_full():
                    return await stack.enter_async_context(opening())
            except Unavailable as error:
                log.warning("database_waited_for", detail=error.detail)
                if not pause:
                    await meanwhile.enter_async_context(waiting())
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause or FIRST_PAUSE_SECONDS)
            await asyncio.sleep(spread(pause))


@contextmanager
def _disk_full() -> Iterator[None]:
    """Convert a full disk's OSError to StorageFull. Startup does not wait for other OSErrors."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(f"The disk is full: {error.filename or error.strerror}") from error


class _StartingServer(uvicorn.Server):
    """uvicorn without signal handlers: a signal ends the startup, which stops this server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def alive_meanwhile(
    settings: Settings, connections: Connections, sockets: Sequence[socket.socket]
) -> AsyncIterator[None]:
    """During the block, report on duplicates of the sockets that this process is alive and not ready."""
    server = _StartingServer(server_config(settings, create_starting_api(), connections))
    serving = asyncio.create_task(server.serve([bound.dup() for bound in sockets]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
