"""The transport of a connection, whatever form it has by now: plain, in TLS, compressed."""

from __future__ import annotations

import asyncio
import socket
import ssl

from app.backends.imap.connection.compression import DeflateLayer, Receiver
from app.errors import Unreachable

KEEPALIVE_SECONDS = 60


class Wire:
    """A transport that may have closed without saying so yet: uvloop takes any use of it for our fault."""

    __slots__ = ("_closed", "_may_write", "_transport")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()

    def attach(self, transport: asyncio.Transport) -> None:
        """The connection is made."""
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    def _open(self) -> asyncio.Transport | None:
        """The transport, while it can be used."""
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    # ---- writing

    def put(self, data: bytes) -> None:
        """Write. Raises Unreachable where the transport has closed."""
        transport = self._open()
        if transport is None:
            raise Unreachable("The connection to the mail server was lost")
        transport.write(data)

    async def drain(self) -> None:
        """Wait until the transport takes more."""
        await self._may_write.wait()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    # ---- reading

    def pause_reading(self) -> None:
        if (transport := self._open()) is not None:
            transport.pause_reading()

    def resume_reading(self) -> None:
        if (transport := self._open()) is not None:
            transport.resume_reading()

    # ---- form

    def compress(self, above: Receiver, compressed: bytes) -> None:
        """Go on compressed; these bytes were read already (RFC 4978)."""
        assert self._transport is not None
        layer = DeflateLayer(self._transport, above, compressed)
        self._transport.set_protocol(layer)
        self._transport = layer

    async def start_tls(
        self, above: asyncio.BaseProtocol, context: ssl.SSLContext, host: str, timeout_seconds: float
    ) -> None:
        """Go on in TLS. Raises OSError (ssl.SSLError among them)."""
        assert self._transport is not None
        transport = await asyncio.get_running_loop().start_tls(
            self._transport, above, context, server_hostname=host, ssl_handshake_timeout=timeout_seconds
        )
        if transport is None:
            raise ConnectionError
        self._transport = transport

    # ---- the end

    def abort(self) -> None:
        """Cut it off, and let who waits to write go on."""
        if self._transport is not None:
            self._transport.abort()
        self._may_write.set()

    def close(self, last: bytes) -> None:
        """Write this, as far as it can be, and close."""
        if (transport := self._open()) is not None:
            transport.write(last)
        if self._transport is not None:
            self._transport.close()
        self._may_write.set()

    def note_closed(self) -> None:
        self._closed.set()

    async def wait_closed(self, timeout_seconds: float) -> None:
        """Wait until the transport is closed; after so many seconds cut it off."""
        if self._transport is None:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._closed.wait()
        except TimeoutError:
            self._transport.abort()
