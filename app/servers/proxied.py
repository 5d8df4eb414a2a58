"""A listening socket whose proxies send a PROXY protocol header first.

The header is read from the socket before the transport exists, and not one byte after it, which may be TLS.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from app.errors import MalformedRequest
from app.security.addresses import Proxies
from app.wire.proxy import ProxyHeader

HEADER_SECONDS = 5.0
PENDING_LIMIT = 256
"""Connections that may wait for their header; further connections are closed."""
_PAUSE_SECONDS = 0.1
"""The delay before the next accept after the system ran out of descriptors."""

Factory = Callable[[str], asyncio.Protocol]
"""Creates the protocol of a connection from the client's address."""


class ProxiedServer:
    """Accepts connections until it is closed."""

    def __init__(self, factory: Factory, proxies: Proxies, host: str, port: int, backlog: int) -> None:
        """Listen on the port. Raises OSError if it is in use."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=backlog)
        self._socket.setblocking(False)
        self._factory = factory
        self._proxies = proxies
        self._pending: set[asyncio.Task[None]] = set()
        self.port = int(self._socket.getsockname()[1])
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def close(self) -> None:
        """Stop accepting, and close connections that have not sent a header."""
        tasks = [self._accepting, *self._pending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(self._socket)
            except OSError:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if len(self._pending) >= PENDING_LIMIT:
                client.close()
                continue
            task = loop.create_task(self._take(client, str(address[0])))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _take(self, client: socket.socket, address: str) -> None:
        try:
            client.setblocking(False)
            if address in self._proxies:
                async with asyncio.timeout(HEADER_SECONDS):
                    address = await _client_address(client) or address
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self._factory(address), client)
        except (MalformedRequest, OSError):  # TimeoutError is an OSError
            client.close()
        except asyncio.CancelledError:
            client.close()
            raise


async def _client_address(client: socket.socket) -> str | None:
    """Return the client address in the header; None for the proxy's own connections (LOCAL).

    Raises MalformedRequest or OSError.
    """
    header, loop = ProxyHeader(), asyncio.get_running_loop()
    while header.wanted:
        data = await loop.sock_recv(client, header.wanted)
        if not data:
            raise ConnectionResetError("The client closed before its PROXY protocol header")
        header.feed(data)
    return header.address
