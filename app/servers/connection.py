"""One client's socket under asyncio: reads wait for bytes or a poke, writes wait while the client does not read."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from app.cluster.bus import ACCESS, Waiter
from app.servers.conversation import ClientLost, Farewell
from app.sockets import reset

READ_LIMIT_BYTES = 256 * 1024
"""Bytes read from the socket ahead of the conversation; above this, reading pauses."""
WRITE_LIMIT_BYTES = 256 * 1024
GATHER_BYTES = 64 * 1024
"""Replies are collected up to this size before they are sent."""
SEND_TIMEOUT_SECONDS = 60.0
"""How long a client may take to read `WRITE_LIMIT_BYTES`."""
HANDSHAKE_TIMEOUT_SECONDS = 20.0


class _Poke(Waiter):
    """A waiter of the bus that also wakes the connection's read."""

    __slots__ = ("_rouse",)

    def __init__(self, rouse: Callable[[], None]) -> None:
        super().__init__()
        self._rouse = rouse

    def poke(self, topic: str) -> None:
        self.topics.add(topic)
        self._rouse()


class Connection(asyncio.Protocol):
    """A client's socket. It calls `on_open` when it is open; one task reads and writes."""

    def __init__(self, on_open: Callable[[Connection], None], address: str | None = None) -> None:
        """`address`: the client's address, if a proxy has sent it."""
        self._address = address
        self._on_open: Callable[[Connection], None] | None = on_open
        self._transport: asyncio.Transport | None = None
        self._incoming: list[bytes] = []
        self._incoming_bytes = 0
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._is_ended = False
        self._is_lost = False
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._is_roused = asyncio.Event()
        self.waiter: Waiter = _Poke(self._is_roused.set)
        self.ending: Farewell | None = None
        """Why the server ends this connection; None while it does not."""

    # ---- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass
        self._transport.set_write_buffer_limits(high=WRITE_LIMIT_BYTES)
        on_open, self._on_open = self._on_open, None
        if on_open is not None:  # STARTTLS calls connection_made a second time
            on_open(self)

    def data_received(self, data: bytes) -> None:
        self._incoming.append(data)
        self._incoming_bytes += len(data)
        if self._incoming_bytes >= READ_LIMIT_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._is_roused.set()

    def eof_received(self) -> bool:
        self._is_ended = True
        self._is_roused.set()
        return not self._is_tls

    def connection_lost(self, _: Exception | None) -> None:
        self._is_ended = self._is_lost = True
        self._is_roused.set()
        self._can_write.set()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    # ---- called by the listener

    @property
    def address(self) -> str:
        """Return the client's IP address; "" if there is none."""
        if self._address is not None:
            return self._address
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if name else ""

    @property
    def _is_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is not None

    @property
    def is_revoked(self) -> bool:
        """Whether the login of this connection is no longer valid."""
        return ACCESS in self.waiter.topics

    def end(self, reason: Farewell) -> None:
        """End the next wait for the client: the server stops, or another client needs the connection."""
        self.ending = reason
        self._is_roused.set()

    async def read(self, timeout_seconds: float) -> bytes | None:
        """Return what the client sent; b"" after a poke only; None at the end of input. Raises TimeoutError."""
        if not self._incoming and not self.waiter.topics and self.ending is None and not self._is_ended:
            self._is_roused.clear()
            async with asyncio.timeout(timeout_seconds):
                await self._is_roused.wait()
        if self._incoming:
            return self._take()
        return None if self._is_ended else b""

    def _take(self) -> bytes:
        data = self._incoming[0] if len(self._incoming) == 1 else b"".join(self._incoming)
        self._incoming.clear()
        transport = self._transport
        if self._incoming_bytes >= READ_LIMIT_BYTES and transport is not None and not transport.is_closing():
            transport.resume_reading()
        self._incoming_bytes = 0
        return data

    async def send(self, data: bytes) -> None:
        """Send in order; wait while the client does not read. Raises ClientLost."""
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        if self._outgoing_bytes >= GATHER_BYTES:
            if self.is_revoked:
                raise ClientLost("The login was revoked during a long response")
            await self.flush()

    async def flush(self) -> None:
        """Write the collected output to the transport. Raises ClientLost."""
        if not self._outgoing:
            return
        self._write()
        if self._can_write.is_set():
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._can_write.wait()
        except TimeoutError:
            raise ClientLost("The client does not read") from None

    def _write(self) -> None:
        if self._is_lost or self._transport is None or self._transport.is_closing():
            raise ClientLost
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        self._outgoing_bytes = 0

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Discard unread input, send collected output, and continue under TLS. Raises ClientLost if that fails.

        Reading stops first: plaintext that a client (or an attacker on the path) sent after its command is never read
        as a command under TLS (CVE-2021-33515); plaintext still in the socket makes the handshake fail.
        """
        transport = self._transport
        if transport is None or self._is_lost:
            raise ClientLost
        transport.pause_reading()
        self._incoming.clear()
        self._incoming_bytes = 0
        if self._outgoing:
            self._write()
        loop = asyncio.get_running_loop()
        try:
            made = await loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS
            )
        except OSError as error:  # includes ssl.SSLError and TimeoutError
            transport.abort()
            raise ClientLost("The TLS handshake failed") from error
        if made is None:
            raise ClientLost
        self.connection_made(made)

    def abort(self) -> None:
        """Reset the connection unless it has ended: a closed TLS transport has no `abort`."""
        if self._transport is not None and not self._is_lost:
            reset(self._transport)

    async def close(self, timeout_seconds: float) -> None:
        """Send collected output and close; reset the connection if it does not close in time."""
        transport = self._transport
        if transport is None:
            return
        if self._outgoing and not self._is_lost:
            self._write()
        transport.close()
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self._is_lost:
                    self._is_roused.clear()
                    await self._is_roused.wait()
        except TimeoutError:
            reset(transport)
