"""A uvicorn server that reports readiness, and ends its connections within a deadline."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.sockets import reset
from app.telemetry import get_logger

if TYPE_CHECKING:
    from app.runtime import Runtime

FOLLOWERS_SECONDS = 2.5
"""How long stream clients may take to read the end of the stream and close."""
REQUESTS_SECONDS = 4.5
"""How long running requests may take before they are answered with 503."""
ANSWER_SECONDS = 0.5
"""How long clients may take to read the 503."""
LOOK_SECONDS = 0.05

log = get_logger(__name__)

SayReady = Callable[[int, "Runtime"], None]
"""Called with the HTTP port once all servers listen."""


class HttpServer(uvicorn.Server):
    """Serves until `should_exit`; then ends HTTP, the mail servers and the workers at the same time."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime, say_ready: SayReady) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._say_ready = say_ready

    def end(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._say_ready(self.servers[0].sockets[0].getsockname()[1], self._runtime)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: the process has its own."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        for server in self.servers:
            server.close()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runtime.drain())
            group.create_task(self._end_connections())

    async def _end_connections(self) -> None:
        """End connections: streams and long polls end by themselves, running requests finish or get a 503."""
        for connection in list(self.server_state.connections):
            if not isinstance(connection, WebSocketsSansIOProtocol):
                connection.shutdown()
        began = asyncio.get_running_loop().time()
        await self._wait_until(began + FOLLOWERS_SECONDS)
        self._cut(connection for connection in self.server_state.connections if _is_following(connection))
        await self._wait_until(began + REQUESTS_SECONDS)
        if self.server_state.tasks:
            log.warning("requests_cancelled", count=len(self.server_state.tasks))
        for task in self.server_state.tasks:
            task.cancel()
        await self._wait_until(began + REQUESTS_SECONDS + ANSWER_SECONDS)
        self._cut(iter(self.server_state.connections))

    async def _wait_until(self, time: float) -> None:
        """Wait until `time` by the event loop's clock, or until all connections and requests have ended."""
        loop = asyncio.get_running_loop()
        state = self.server_state
        while (state.connections or state.tasks) and loop.time() < time:  # noqa: ASYNC110 - uvicorn's sets have no event
            await asyncio.sleep(LOOK_SECONDS)

    def _cut(self, connections: Iterator[object]) -> None:
        for connection in list(connections):
            reset(cast("WebSocketsSansIOProtocol", connection).transport)


def _is_following(connection: object) -> bool:
    """Whether this is a WebSocket, or an HTTP connection whose client does not read."""
    if isinstance(connection, WebSocketsSansIOProtocol):
        return True
    flow = getattr(connection, "flow", None)
    return flow is not None and flow.write_paused
