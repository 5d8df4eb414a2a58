"""Receives responses and pipelines commands of an IMAP connection, based on aioimaplib's protocol object.

aioimaplib's parsing is replaced: commands are pipelined by tag, a response goes to the oldest command that requests its
kind, large literals go to a sink with back-pressure, and an error fails every waiting command at once. Only commands of
our encoder are sent. Nothing that was sent or received is logged.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from aioimaplib import aioimaplib as stock
from typing_extensions import override

from app.backends import tracing
from app.backends.imap.connection import lines
from app.backends.imap.connection.answers import CommandCompletion
from app.backends.imap.connection.deadlines import Deadlines
from app.backends.imap.connection.exchange import Exchange
from app.backends.imap.connection.sending import CommandSending
from app.backends.imap.connection.waiting import ContinuationWait, Waiting
from app.backends.imap.connection.wire import Wire
from app.errors import MailServerError, ServerProtocolError, Unreachable
from app.mail.masking import Masker
from app.mail.protocol_log import Recorder
from app.wire.imap.framing import (
    ClientFramer,
    LiteralChunk,
    LiteralEnd,
    LiteralStart,
    Response,
    ServerEvent,
)

MAX_UNSOLICITED = 200_000
"""Unsolicited responses between two commands."""
CLOSE_TIMEOUT_SECONDS = 2.0

NONAUTH, AUTH = stock.NONAUTH, stock.AUTH


class ImapProtocol(stock.IMAP4ClientProtocol):
    """A protocol with linear-time parsing and bounded memory.

    `on_untagged` receives each untagged response, solicited or not. The `on_lost` callbacks are called once, when the
    connection ends. A command whose deadline passes ends the connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.offered: frozenset[str] = frozenset()
        self.greeting: asyncio.Future[Response] = loop.create_future()
        self.lost: MailServerError | None = None
        self.recorder: Recorder | None = None
        self.masker = Masker()
        self.on_untagged: Callable[[Response], None] | None = None
        self.on_lost: list[Callable[[], None]] = []
        self._wire = Wire()
        self._on_quiet: Callable[[], object] | None = None
        self._framer = ClientFramer()
        self._waiting = Waiting()
        self._writing = asyncio.Lock()
        self._go_ahead = ContinuationWait()
        self.deadlines = Deadlines(self.drop)
        self._sending = CommandSending(self._wire, self._go_ahead, self.deadlines)
        self._literal_owner: Exchange | None = None
        self._unsolicited = 0

    # ---- life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire.attach(cast(asyncio.Transport, transport))
        if self.lost is not None:  # dropped before the connection was made
            self._wire.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(Unreachable("The connection to the mail server was lost"))
        self._wire.note_closed()

    async def wait_closed(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Wait until the transport is closed, and abort it after `timeout_seconds`."""
        await self._wire.wait_closed(timeout_seconds)

    def drop(self, error: MailServerError) -> None:
        """End the connection now: every waiting command raises `error`. Safe to call again."""
        if self.lost is None:
            self._wire.abort()
            self._lose(error)

    def _lose(self, error: MailServerError) -> None:
        self.lost = error
        self.state = stock.LOGOUT
        self._waiting.fail(error)
        self._go_ahead.refuse()
        if not self.greeting.done():
            self.greeting.set_exception(error)
            self.greeting.exception()
        for callback in self.on_lost:
            callback()
        self._call_on_quiet()

    def leave(self) -> None:
        """Send LOGOUT and close without waiting for the response."""
        if self.lost is None:
            self._wire.close(f"{self.new_tag()} LOGOUT\r\n".encode())
            self._lose(Unreachable("The connection is closed"))

    def when_quiet(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when no command is in progress or the connection is lost."""
        self._on_quiet = callback

    def _call_on_quiet(self) -> None:
        callback, self._on_quiet = self._on_quiet, None
        if callback is not None:
            callback()

    @property
    def is_quiet(self) -> bool:
        """Whether no command is in progress, so that another caller can use the connection."""
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
        word = lines.greeting(response.text)
        if word is None:
            raise ServerProtocolError("The server does not speak IMAP")
        if word == b"BYE":
            self.drop(
                lines.goodbye(
                    self.masker.mask_bytes(response.text), "The mail server does not accept connections at the moment"
                )
            )
            return
        self.state = stock.AUTH if word == b"PREAUTH" else stock.NONAUTH
        self._learn_capabilities(response.text)
        self.greeting.set_result(response)

    def _receive_untagged(self, response: Response) -> None:
        exchange = self._waiting.owner(response.text)
        if response.text[2:12].upper() == b"CAPABILITY":
            self._learn_capabilities(response.text)
        if exchange is not None:
            exchange.take(exchange.sink.fill(response))
        else:
            self._count_unsolicited()
        if self.on_untagged is not None:
            self.on_untagged(response)
        if lines.is_goodbye(response.text):
            self.drop(lines.goodbye(self.masker.mask_bytes(response.text), "The mail server closed the connection"))

    def _count_unsolicited(self) -> None:
        self._unsolicited += 1
        if self._unsolicited > MAX_UNSOLICITED:
            raise ServerProtocolError("The server sends too many unsolicited responses")

    def _response_done(self, line: bytes) -> None:
        ended = lines.tagged(line)
        exchange = self._waiting.get(ended[0]) if ended else None
        if ended is not None and ended[0].upper() == b"DONE":
            self._count_unsolicited()  # our DONE crossed the server's completion of IDLE
            return
        if ended is None or exchange is None:
            raise ServerProtocolError("The server completed a command that was not sent")
        tag, status, text = ended
        self._learn_capabilities(text)
        if status == "OK":
            self._change_transport(exchange)
        else:
            text, line = self.masker.mask_bytes(text), self.masker.mask_bytes(line)  # errors quote it
        self._waiting.remove(tag)
        exchange.close(text, status)
        self._go_ahead.refuse(exchange)
        if (error := lines.cut_off(line)) is not None:
            self.drop(error)
        if not self._waiting:
            self._call_on_quiet()

    def _learn_capabilities(self, text: bytes) -> None:
        offered = lines.capabilities(text)
        if offered is not None:
            self.offered = offered

    def _start_literal(self, event: LiteralStart) -> None:
        first = event.parts[0]
        assert isinstance(first, bytes)
        self._literal_owner = self._waiting.owner(first)
        if self._literal_owner is None:
            raise ServerProtocolError("The server sent a large literal that was not requested")
        self._literal_owner.sink.start(event.literal)

    def _receive_chunk(self, event: LiteralChunk) -> None:
        exchange = self._literal_owner
        if exchange is not None:
            exchange.sink.write(event.data)
            self.deadlines.count(exchange, len(event.data))

    def pause_reading(self) -> None:
        self._wire.pause_reading()

    def resume_reading(self) -> None:
        self._wire.resume_reading()

    # ---- sending

    @override
    async def execute(self, command: stock.Command, scrub: str | None = None) -> stock.Response:
        """Send a command, which must be an Exchange, and wait for its end. Several may be in progress.

        Raises Unreachable, TimedOut or ServerProtocolError when the connection ends first.
        """
        if not isinstance(command, Exchange):
            raise TypeError("Only commands of our encoder are sent: aioimaplib does not quote arguments")
        await self.submit(command)
        await self.settle(command)
        return cast(stock.Response, command.response)

    async def submit(self, exchange: Exchange) -> None:
        """Send a command. Returns when its last byte is written, without waiting for its end.

        Cancellation within a literal ends the connection: the server would read the next command as the literal.
        """
        async with self._writing:
            self._begin(exchange)
            try:
                await self._sending.write(exchange, self.offered, self.recorder)
            except BaseException:
                self.drop(Unreachable("A command was aborted within its literal"))
                raise

    async def settle(self, exchange: Exchange) -> CommandCompletion:
        """Wait for the end of a submitted command. On cancellation the command is abandoned."""
        try:
            await exchange.wait()
        except BaseException:
            exchange.abandon()
            raise
        return exchange.completion

    async def go_ahead(self, exchange: Exchange) -> bytes | None:
        """The text of the next continuation request for this command; None if the command ended instead."""
        return await self._go_ahead.wait(exchange)

    @override
    def send(self, line: str | bytes, scrub: str | None = None) -> None:
        """Write one line: a response to a continuation request, or DONE."""
        data = line.encode("ascii") if isinstance(line, str) else line
        tracing.imap_line_sent(self.recorder, data)
        self._wire.put(data + b"\r\n")

    def _continuation(self, line: bytes) -> None:
        """Pass on a continuation request. One that no command waits for is ignored, but counted."""
        if not self._go_ahead.give(line):
            self._count_unsolicited()

    def _begin(self, exchange: Exchange) -> None:
        if self.lost is not None:
            raise type(self.lost)(self.lost.detail, self.lost.origin)
        self._unsolicited = 0
        self._waiting.add(exchange)
        self.deadlines.begin(exchange)

    def pause_writing(self) -> None:
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        self._wire.resume_writing()

    # ---- TLS and compression

    def _change_transport(self, exchange: Exchange) -> None:
        """Switch to TLS after the OK to STARTTLS, and to compression after the OK to COMPRESS."""
        if exchange.ends_plaintext:
            self._end_plaintext()
        elif exchange.begins_compression:
            self._wire.compress(self, self._framer.take_unread())

    def _end_plaintext(self) -> None:
        """Prepare for TLS. Plaintext after the OK was injected by an attacker."""
        if self._framer.unread_bytes:
            raise ServerProtocolError("Plaintext follows the server's OK to STARTTLS")
        self._wire.pause_reading()
        self.offered = frozenset()

    async def start_tls(self, context: ssl.SSLContext, host: str, timeout_seconds: float) -> None:
        """Start TLS after the OK to STARTTLS. Raises OSError, including ssl.SSLError."""
        await self._wire.start_tls(self, context, host, timeout_seconds)
        if self.lost is not None:  # dropped during the handshake
            self._wire.abort()
            raise ConnectionError
