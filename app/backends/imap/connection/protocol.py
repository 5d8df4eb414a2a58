"""The receive path and the pipelining of an IMAP connection, on aioimaplib's protocol object.

What aioimaplib does with bytes is replaced: commands are pipelined by tag, every answer goes to the oldest command
that asks for its kind, large literals flow to a sink with back-pressure, and whatever breaks fails every waiting
command at once. Only commands of our encoder leave. Nothing that was sent or received is ever logged.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import cast

from aioimaplib import aioimaplib as stock
from typing_extensions import override

from app.backends import tracing
from app.backends.imap.connection.answers import Completion, is_enough, shown, throttled
from app.backends.imap.connection.compression import DeflateLayer
from app.backends.imap.connection.exchange import Exchange
from app.errors import InvalidRequest, MailServerError, ServerProtocolError, TimedOut, Unreachable
from app.mail.trace import Recorder
from app.wire.imap.encode import LITERAL_MINUS, LITERAL_PLUS, NO_PLUS
from app.wire.imap.framing import (
    ClientFramer,
    LiteralChunk,
    LiteralEnd,
    LiteralStart,
    Response,
    ServerEvent,
)

PROGRESS_BYTES = 64 * 1024
"""A command that moves a large literal gets its whole deadline anew for each so many bytes, and not for less."""
MAX_UNSOLICITED = 200_000
"""Responses between two commands."""
KEEPALIVE_SECONDS = 60
CLOSE_TIMEOUT_SECONDS = 2.0

NONAUTH, AUTH = stock.NONAUTH, stock.AUTH

_TAGGED = re.compile(rb"([A-Z0-9]{1,20}) (OK|NO|BAD)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_CAPABILITIES = re.compile(rb"\* CAPABILITY ([^\r\n]*)|[^\[]*\[CAPABILITY ([^\]]*)\]", re.IGNORECASE)
_GREETING = re.compile(rb"\* (OK|PREAUTH|BYE)(?: |\Z)", re.IGNORECASE)
_NAME = re.compile(rb"\* (?:[0-9]+ )?([A-Za-z]+)")
_BYE = re.compile(rb"\* BYE(?: |\Z)", re.IGNORECASE)
_CUT_OFF = b"User is authenticated but not connected"
"""Microsoft 365's BAD to any command where it has had enough of the account: nothing more works on the connection."""


@lru_cache(maxsize=256)
def _capability_set(names: bytes) -> frozenset[str]:
    """The names in upper case; one set for all connections to servers that offer the same."""
    return frozenset(names.decode("ascii", "replace").upper().split())


def _goodbye(text: bytes, otherwise: str) -> MailServerError:
    return throttled(shown(text[2:])) if is_enough(text) else Unreachable(otherwise)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


class ImapProtocol(stock.IMAP4ClientProtocol):
    """The protocol object with a receive path that is linear in its input and bounded in memory.

    `on_untagged` hears each untagged response, asked for or not; `on_lost` are called once when it ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.offered: frozenset[str] = frozenset()
        self.greeting: asyncio.Future[Response] = loop.create_future()
        self.lost: MailServerError | None = None
        self.recorder: Recorder | None = None
        self.on_untagged: Callable[[Response], None] | None = None
        self.on_lost: list[Callable[[], None]] = []
        self._closed = asyncio.Event()
        self._on_quiet: Callable[[], object] | None = None
        self._framer = ClientFramer()
        self._waiting: dict[bytes, Exchange] = {}
        self._writing = asyncio.Lock()
        self._go_ahead: asyncio.Future[bytes | None] | None = None
        self._sending: Exchange | None = None
        self._literal_owner: Exchange | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._progress_bytes = self._unsolicited = 0

    # ---- life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)
        if self.lost is not None:  # nobody waited for the connection to be made
            self._wire.abort()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(Unreachable("The connection to the mail server was lost"))
        self._closed.set()

    async def wait_closed(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Wait until the transport is closed; after so many seconds cut it off."""
        if self.transport is None:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._closed.wait()
        except TimeoutError:
            self._wire.abort()

    def drop(self, error: MailServerError) -> None:
        """End the connection now: every command that waits raises `error`. Does nothing the second time."""
        if self.lost is None:
            if self.transport is not None:
                self._wire.abort()
            self._lose(error)

    def _lose(self, error: MailServerError) -> None:
        self.lost = error
        self.state = stock.LOGOUT
        for exchange in self._waiting.values():
            exchange.fail(error)
        self._waiting.clear()
        self._refuse_go_ahead()
        self._may_write.set()
        if not self.greeting.done():
            self.greeting.set_exception(error)
            self.greeting.exception()
        for callback in self.on_lost:
            callback()
        self._tell_quiet()

    def leave(self) -> None:
        """Say LOGOUT and close without waiting for the answer."""
        if self.lost is None:
            if not self._wire.is_closing():
                self._wire.write(f"{self.new_tag()} LOGOUT\r\n".encode())
            self._wire.close()
            self._lose(Unreachable("The connection is closed"))

    def when_quiet(self, callback: Callable[[], object]) -> None:
        """Call back once when no command waits any more, or the connection is lost."""
        self._on_quiet = callback

    def _tell_quiet(self) -> None:
        callback, self._on_quiet = self._on_quiet, None
        if callback is not None:
            callback()

    @property
    def is_quiet(self) -> bool:
        """Whether no command waits, so that another user can begin."""
        return self.lost is None and not self._waiting and not self._writing.locked()

    # ---- receiving

    @override
    def data_received(self, d: bytes) -> None:
        if self.lost is not None:
            return
        try:
            for event in self._framer.feed(d):
                self._receive(event)
                if self.lost is not None:
                    return
        except ServerProtocolError as error:
            self.drop(error)

    def _receive(self, event: ServerEvent) -> None:
        match event:
            case Response():
                self._receive_response(event)
            case LiteralStart():
                self._start_literal(event)
            case LiteralChunk():
                self._receive_chunk(event)
            case LiteralEnd():
                self._literal_owner = None

    def _receive_response(self, response: Response) -> None:
        tracing.imap_received(self.recorder, response)
        text = response.text
        if not self.greeting.done():
            self._greet(response)
        elif text.startswith(b"*"):
            self._receive_untagged(response)
        elif text.startswith(b"+"):
            self._continuation(text[2:])
        else:
            self._response_done(text)

    def _greet(self, response: Response) -> None:
        match = _GREETING.match(response.text)
        if match is None:
            raise ServerProtocolError("The server does not speak IMAP")
        if match[1].upper() == b"BYE":
            self.drop(_goodbye(response.text, "The mail server takes no connection now"))
            return
        self.state = stock.AUTH if match[1].upper() == b"PREAUTH" else stock.NONAUTH
        self._learn_capabilities(response.text)
        self.greeting.set_result(response)

    def _receive_untagged(self, response: Response) -> None:
        exchange = self._owner(response.text)
        if response.text[2:12].upper() == b"CAPABILITY":
            self._learn_capabilities(response.text)
        if exchange is not None:
            exchange.take(exchange.sink.fill(response))
        else:
            self._count_unsolicited()
        if self.on_untagged is not None:
            self.on_untagged(response)
        if _BYE.match(response.text):
            self.drop(_goodbye(response.text, "The mail server said goodbye"))

    def _owner(self, text: bytes) -> Exchange | None:
        """The oldest command that asks for this kind of response, else the oldest.

        Servers begin commands in turn but need not end them so: Dovecot answers a FETCH before a NOOP ahead of it.
        """
        waiting = self._waiting.values()
        if len(waiting) > 1 and (match := _NAME.match(text)) is not None:
            name = match[1].upper()
            for exchange in waiting:
                if name in exchange.expects:
                    return exchange
        return next(iter(waiting), None)

    def _count_unsolicited(self) -> None:
        self._unsolicited += 1
        if self._unsolicited > MAX_UNSOLICITED:
            raise ServerProtocolError("The server sends without end what nobody asked for")

    def _response_done(self, line: bytes) -> None:
        match = _TAGGED.fullmatch(line)
        exchange = self._waiting.get(match[1]) if match else None
        if match is None or exchange is None:
            raise ServerProtocolError("The server answers a command that was not given")
        text = match[3] or b""
        self._learn_capabilities(text)
        if match[2].upper() == b"OK":
            self._change_form(exchange)
        del self._waiting[match[1]]
        exchange.close(text, match[2].decode("ascii").upper())
        if exchange is self._sending:
            self._refuse_go_ahead()
        if _CUT_OFF in text:
            self.drop(throttled(shown(line.partition(b" ")[2])))
        if not self._waiting:
            self._tell_quiet()

    def _learn_capabilities(self, text: bytes) -> None:
        match = _CAPABILITIES.match(text)
        if match is not None:
            self.offered = _capability_set(match[1] or match[2] or b"")

    def _start_literal(self, event: LiteralStart) -> None:
        first = event.parts[0]
        assert isinstance(first, bytes)
        self._literal_owner = self._owner(first)
        if self._literal_owner is None:
            raise ServerProtocolError("The server sends a large literal that nobody asked for")
        self._literal_owner.sink.start(event.literal)

    def _receive_chunk(self, event: LiteralChunk) -> None:
        exchange = self._literal_owner
        if exchange is not None:
            exchange.sink.write(event.data)
            self._count_progress(exchange, len(event.data))

    def pause_reading(self) -> None:
        if not self._wire.is_closing():
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        if not self._wire.is_closing():
            self._wire.resume_reading()

    # ---- sending

    @override
    async def execute(self, command: stock.Command, scrub: str | None = None) -> stock.Response:
        """Send a command and wait for its end; several may wait at once. The command must be an Exchange.

        Raises Unreachable, TimedOut or ServerProtocolError when the connection ends first.
        """
        if not isinstance(command, Exchange):
            raise TypeError("Only commands of our encoder leave: those of aioimaplib are not quoted")
        await self.submit(command)
        await self.settle(command)
        return cast(stock.Response, command.response)

    async def submit(self, exchange: Exchange) -> None:
        """Send a command without waiting for its end; returns when its last byte is written.

        Who gives up amid a literal ends the connection: the server would take what follows for it.
        """
        async with self._writing:
            self._begin(exchange)
            try:
                await self._write(exchange)
            except BaseException:
                self.drop(Unreachable("A command was given up amid its literal"))
                raise

    async def settle(self, exchange: Exchange) -> Completion:
        """Wait for the end of a command that was submitted. When the caller gives up, the command is abandoned."""
        try:
            await exchange.wait()
        except BaseException:
            exchange.abandon()
            raise
        return exchange.completion

    async def go_ahead(self, exchange: Exchange) -> bytes | None:
        """The text of the server's next `+` for this command; None when the command ended instead."""
        if exchange.is_done:
            return None
        self._go_ahead, self._sending = asyncio.get_running_loop().create_future(), exchange
        try:
            return await self._go_ahead
        finally:
            self._go_ahead = self._sending = None

    @override
    def send(self, line: str | bytes, scrub: str | None = None) -> None:
        """Write one line: an answer to a `+`, or DONE."""
        data = line.encode("ascii") if isinstance(line, str) else line
        tracing.imap_line_sent(self.recorder, data)
        self._put(data + b"\r\n")

    def _put(self, data: bytes) -> None:
        """Write; raises Unreachable on a wire that closed and has not said so: uvloop takes that for our fault."""
        if self._wire.is_closing():
            raise Unreachable("The connection to the mail server was lost")
        self._wire.write(data)

    def _continuation(self, line: bytes) -> None:
        """A `+` that nobody waits for is passed over, but counted."""
        if self._go_ahead is None or self._go_ahead.done():
            self._count_unsolicited()
        else:
            self._go_ahead.set_result(line)

    def _refuse_go_ahead(self) -> None:
        if self._go_ahead is not None and not self._go_ahead.done():
            self._go_ahead.set_result(None)

    def _begin(self, exchange: Exchange) -> None:
        if self.lost is not None:
            raise type(self.lost)(self.lost.detail, self.lost.origin)
        self._unsolicited = self._progress_bytes = 0
        self._waiting[exchange.tag.encode()] = exchange
        self.renew_deadline(exchange)

    async def _write(self, exchange: Exchange) -> None:
        tag = exchange.tag.encode()
        segments = exchange.command.segments(tag, self._literal_limit())
        tracing.imap_sent(self.recorder, exchange.command, tag, segments[0])
        for index, segment in enumerate(segments):
            if index and await self.go_ahead(exchange) is None:
                return
            for piece in segment:
                if isinstance(piece, bytes):
                    self._put(piece)
                else:
                    await self._upload(exchange, piece.size_bytes)

    def _literal_limit(self) -> int:
        if "LITERAL+" in self.offered:
            return LITERAL_PLUS
        return LITERAL_MINUS if "LITERAL-" in self.offered else NO_PLUS

    async def _upload(self, exchange: Exchange, size_bytes: int) -> None:
        left = size_bytes
        async for chunk in exchange.content or _nothing():
            left -= len(chunk)
            if left < 0 or self.lost is not None:
                break
            self._put(chunk)
            self._count_progress(exchange, len(chunk))
            await self._may_write.wait()
        if left and self.lost is None:
            raise InvalidRequest("The content is not as long as was said")

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    # ---- deadlines

    def renew_deadline(self, exchange: Exchange, seconds: float | None = None) -> None:
        """Give a command its whole time from now, or so many seconds; the connection ends when they have passed."""
        if exchange.deadline is not None:
            exchange.deadline.cancel()
        delay = exchange.timeout_seconds if seconds is None else seconds
        exchange.deadline = asyncio.get_running_loop().call_later(delay, self.drop, TimedOut())

    def _count_progress(self, exchange: Exchange, size_bytes: int) -> None:
        self._progress_bytes += size_bytes
        if self._progress_bytes >= PROGRESS_BYTES:
            self._progress_bytes = 0
            self.renew_deadline(exchange)

    # ---- TLS and compression

    def _change_form(self, exchange: Exchange) -> None:
        """What is read after the OK to STARTTLS is TLS, after that to COMPRESS is compressed."""
        if exchange.ends_plaintext:
            self._end_plaintext()
        elif exchange.begins_compression:
            layer = DeflateLayer(self._wire, self, self._framer.take_unread())
            self._wire.set_protocol(layer)
            self._wire = layer

    def _end_plaintext(self) -> None:
        """What is read from here on must be TLS: bytes that came with the OK were put in by someone else."""
        if self._framer.unread_bytes:
            raise ServerProtocolError("Plaintext follows the server's OK to STARTTLS")
        self._wire.pause_reading()
        self.offered = frozenset()

    async def start_tls(self, context: ssl.SSLContext, host: str, timeout_seconds: float) -> None:
        """Go on in TLS after the OK to STARTTLS. Raises OSError (ssl.SSLError among them)."""
        loop = asyncio.get_running_loop()
        wire = await loop.start_tls(
            self._wire, self, context, server_hostname=host, ssl_handshake_timeout=timeout_seconds
        )
        if wire is None:
            raise ConnectionError
        self._wire = wire
        if self.lost is not None:  # dropped during the handshake
            wire.abort()
            raise ConnectionError
