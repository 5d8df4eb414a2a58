"""A POP3 connection: socket I/O with deadlines, bounded buffers and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from typing_extensions import override

from app.backends import tracing
from app.backends.endpoint import CONNECT_TIMEOUT_SECONDS, Endpoint, connect_error
from app.errors import CertificateRefused, MailServerError, ServerProtocolError, TimedOut, TooLarge, Unreachable
from app.mail.masking import Masker
from app.mail.protocol_log import Recorder
from app.mail.types import TransportSecurity
from app.wire.pop3_client import Pop3Status, ReplyReader

REPLY_TIMEOUT_SECONDS = 60.0
"""For a reply of one line. Lists and messages may take longer, depending on their announced size."""
LIST_TIMEOUT_SECONDS = 180.0
BYTES_PER_SECOND = 4 * 1024
"""A slower message times out, after a first minute."""
BUFFER_BYTES = 256 * 1024
"""With this many buffered bytes, reading from the socket pauses."""


class Pop3Connection(asyncio.Protocol):
    """One connection. `send` writes commands; replies are read in the order of the commands.

    All waits raise Unreachable when the connection is lost, TimedOut, ServerProtocolError, TooLarge.
    """

    def __init__(self) -> None:
        self._reader = ReplyReader()
        self._transport: asyncio.Transport | None = None
        self._has_input = asyncio.Event()
        self._is_lost = False
        self._is_paused = False
        self.recorder: Recorder | None = None
        self.masker = Masker()

    # ---- called by asyncio

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if len(self._reader) >= BUFFER_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._has_input.set()

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self._has_input.set()

    # ---- commands

    def send(self, data: bytes) -> None:
        if self._is_lost or self._transport is None or self._transport.is_closing():
            raise Unreachable("The connection to the mail server was lost")
        tracing.pop3_sent(self.recorder, data)
        self._transport.write(data)

    async def status(self) -> Pop3Status:
        """The next status line."""
        async with _deadline(REPLY_TIMEOUT_SECONDS):
            while (status := self._reader.status()) is None:
                await self._more()
        tracing.pop3_received(self.recorder, status)
        return status if status.is_ok or status.is_challenge else replace(status, text=self.masker.mask(status.text))

    async def ask(self, line: bytes) -> Pop3Status:
        """Send a command and wait for its status line."""
        self.send(line)
        return await self.status()

    async def lines(self) -> list[bytes]:
        """The rest of a multi-line reply."""
        lines, is_ended = self._reader.lines()
        async with _deadline(LIST_TIMEOUT_SECONDS):
            while not is_ended:
                await self._more()
                more, is_ended = self._reader.lines()
                lines += more
        return lines

    async def copy_message(self, write: Callable[[bytes], None], promised_bytes: int, limit_bytes: int) -> None:
        """Pass a message to `write` in pieces. Raises TooLarge beyond the limit; the connection is then unusable."""
        written = 0
        async with _deadline(REPLY_TIMEOUT_SECONDS + min(promised_bytes, limit_bytes) / BYTES_PER_SECOND):
            while True:
                piece, is_ended = self._reader.piece()
                written += len(piece)
                if written > limit_bytes:
                    raise TooLarge("The message is too large to be stored")
                write(piece)
                if is_ended:
                    return
                await self._more()

    async def _more(self) -> None:
        """Wait for more bytes."""
        if self._is_lost:
            raise Unreachable("The connection to the mail server was lost")
        self._has_input.clear()
        if self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()
        await self._has_input.wait()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS after the server accepted STLS. Plaintext received after that is an attack or a server error."""
        assert self._transport is not None
        if len(self._reader):
            self.drop()
            raise ServerProtocolError("The mail server sent plaintext after it accepted STLS")
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport, self, context, server_hostname=host, ssl_handshake_timeout=CONNECT_TIMEOUT_SECONDS
            )
        except (OSError, TimeoutError) as failure:
            self.drop()
            raise connect_error(failure) from None
        if transport is None or self._is_lost:
            raise Unreachable("The connection to the mail server was lost")
        self._transport = transport

    def drop(self) -> None:
        """Close at once. Safe to call again."""
        self._is_lost = True
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TimedOut("The mail server did not answer in time") from None


async def connect(endpoint: Endpoint) -> Pop3Connection:
    """Connect to the first address that responds. Raises Unreachable, TimedOut, CertificateRefused."""
    error: MailServerError = Unreachable("The mail server has no address")
    for address in endpoint.addresses:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                return await _connect_to(address, endpoint)
        except (OSError, TimeoutError) as failure:
            error = connect_error(failure)
            if isinstance(error, CertificateRefused):
                break
    raise error


async def _connect_to(address: str, endpoint: Endpoint) -> Pop3Connection:
    is_tls = endpoint.security is TransportSecurity.TLS
    _, connection = await asyncio.get_running_loop().create_connection(
        Pop3Connection,
        address,
        endpoint.port,
        ssl=endpoint.tls if is_tls else None,
        server_hostname=endpoint.host if is_tls else None,
    )
    connection.recorder = endpoint.recorder
    connection.masker = endpoint.masker
    return connection
