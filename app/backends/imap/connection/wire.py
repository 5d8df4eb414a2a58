"""The transport of a connection, in plaintext, TLS or compressed."""

from __future__ import annotations

import asyncio
import socket
import ssl

from app.backends.imap.connection.compression import DeflateLayer, Receiver
from app.errors import Unreachable

KEEPALIVE_SECONDS = 60


class Wire:
    """Guards a transport that may have closed without notice: uvloop treats any use of it as an error."""

    __slots__ = ("_closed", "_may_write", "_transport")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()

    def attach(self, transport: asyncio.Transport) -> None:
        """Use the transport of a new connection."""
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    def _open(self) -> asyncio.Transport | None:
        """The transport if it can be used, else None."""
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    # ---- writing

    def put(self, data: bytes) -> None:
        """Write. Raises Unreachable if the transport has closed."""
        transport = self._open()
        if transport is None:
            raise Unreachable("The connection to the mail server was lost")
        transport.write(data)

    async def drain(self) -> None:
        """Wait until the transport accepts more data."""
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

    # ---- TLS and compression

    def compress(self, above: Receiver, compressed: bytes) -> None:
        """Start compression (RFC 4978). `compressed` are bytes that were already read."""
        assert self._transport is not None
        layer = DeflateLayer(self._transport, above, compressed)
        self._transport.set_protocol(layer)
        self._transport = layer

    async def start_tls(
        self, above: asyncio.BaseProtocol, context: ssl.SSLContext, host: str, timeout_seconds: float
    ) -> None:
        """Start TLS. Raises OSError, including ssl.SSLError."""
        assert self._transport is not None
        transport = await asyncio.get_running_loop().start_tls(
            self._transport, above, context, server_hostname=host, ssl_handshake_timeout=timeout_seconds
        )
        if transport is None:
            raise ConnectionError
        self._transport = transport

    # ---- the end

    def abort(self) -> None:
        """Abort the transport, and wake waiting writers."""
        if self._transport is not None:
            self._transport.abort()
        self._may_write.set()

    def close(self, last: bytes) -> None:
        """Write `last` if the transport is open, and close it."""
        if (transport := self._open()) is not None:
            transport.write(last)
        if self._transport is not None:
            self._transport.close()
        self._may_write.set()

    def note_closed(self) -> None:
        self._closed.set()

    async def wait_closed(self, timeout_seconds: float) -> None:
        """Wait until the transport is closed, and abort it after `timeout_seconds`."""
        if self._transport is None:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._closed.wait()
        except TimeoutError:
            self._transport.abort()
