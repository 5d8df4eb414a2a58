"""The receive path and the pipelining of an IMAP connection, on aioimaplib's protocol object.

What aioimaplib does with bytes is replaced: commands are pipelined by tag, every answer goes to the oldest command
that asks for its kind, large literals flow to a sink with back-pressure, and whatever breaks fails every waiting
command at once. Only commands of our encoder leave. Nothing that was sent or received is ever logged.
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
from app.backends.imap.connection.answers import Completion
from app.backends.imap.connection.deadlines import Deadlines
from app.backends.imap.connection.exchange import Exchange
from app.backends.imap.connection.sending import Sending
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
"""Responses between two commands."""
CLOSE_TIMEOUT_SECONDS = 2.0

NONAUTH, AUTH = stock.NONAUTH, stock.AUTH


class ImapProtocol(stock.IMAP4ClientProtocol):
    """The protocol object with a receive path that is linear in its input and bounded in memory.

    `on_untagged` hears each untagged response, asked for or not; `on_lost` are called once when it ended. A command
    whose deadline passes ends the connection.
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
        self._sending = Sending(self._wire, self._go_ahead, self.deadlines)
        self._literal_owner: Exchange | None = None
        self._unsolicited = 0

    # ---- life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire.attach(cast(asyncio.Transport, transport))
        if self.lost is not None:  # nobody waited for the connection to be made
            self._wire.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(Unreachable("The connection to the mail server was lost"))
        self._wire.note_closed()

    async def wait_closed(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Wait until the transport is closed; after so many seconds cut it off."""
        await self._wire.wait_closed(timeout_seconds)

    def drop(self, error: MailServerError) -> None:
        """End the connection now: every command that waits raises `error`. Does nothing the second time."""
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
        self._tell_quiet()

    def leave(self) -> None:
        """Say LOGOUT and close without waiting for the answer."""
        if self.lost is None:
            self._wire.close(f"{self.new_tag()} LOGOUT\r\n".encode())
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
        word = lines.greeting(response.text)
        if word is None:
            raise ServerProtocolError("The server does not speak IMAP")
        if word == b"BYE":
            self.drop(lines.goodbye(self.masker.mask_bytes(response.text), "The mail server accepts no connection now"))
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
            self.drop(lines.goodbye(self.masker.mask_bytes(response.text), "The mail server said goodbye"))

    def _count_unsolicited(self) -> None:
        self._unsolicited += 1
        if self._unsolicited > MAX_UNSOLICITED:
            raise ServerProtocolError("The server sends without end what nobody asked for")

    def _response_done(self, line: bytes) -> None:
        ended = lines.tagged(line)
        exchange = self._waiting.get(ended[0]) if ended else None
        if ended is not None and ended[0].upper() == b"DONE":
            self._count_unsolicited()  # our DONE crossed the server's own end of IDLE
            return
        if ended is None or exchange is None:
            raise ServerProtocolError("The server answers a command that was not given")
        tag, status, text = ended
        self._learn_capabilities(text)
        if status == "OK":
            self._change_form(exchange)
        else:
            text, line = self.masker.mask_bytes(text), self.masker.mask_bytes(line)  # errors repeat it
        self._waiting.remove(tag)
        exchange.close(text, status)
        self._go_ahead.refuse(exchange)
        if (error := lines.cut_off(line)) is not None:
            self.drop(error)
        if not self._waiting:
            self._tell_quiet()

    def _learn_capabilities(self, text: bytes) -> None:
        offered = lines.capabilities(text)
        if offered is not None:
            self.offered = offered

    def _start_literal(self, event: LiteralStart) -> None:
        first = event.parts[0]
        assert isinstance(first, bytes)
        self._literal_owner = self._waiting.owner(first)
        if self._literal_owner is None:
            raise ServerProtocolError("The server sends a large literal that nobody asked for")
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
                await self._sending.write(exchange, self.offered, self.recorder)
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
        return await self._go_ahead.wait(exchange)

    @override
    def send(self, line: str | bytes, scrub: str | None = None) -> None:
        """Write one line: an answer to a `+`, or DONE."""
        data = line.encode("ascii") if isinstance(line, str) else line
        tracing.imap_line_sent(self.recorder, data)
        self._wire.put(data + b"\r\n")

    def _continuation(self, line: bytes) -> None:
        """A `+` that nobody waits for is passed over, but counted."""
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

    def _change_form(self, exchange: Exchange) -> None:
        """What is read after the OK to STARTTLS is TLS, after that to COMPRESS is compressed."""
        if exchange.ends_plaintext:
            self._end_plaintext()
        elif exchange.begins_compression:
            self._wire.compress(self, self._framer.take_unread())

    def _end_plaintext(self) -> None:
        """What is read from here on must be TLS: bytes that came with the OK were put in by someone else."""
        if self._framer.unread_bytes:
            raise ServerProtocolError("Plaintext follows the server's OK to STARTTLS")
        self._wire.pause_reading()
        self.offered = frozenset()

    async def start_tls(self, context: ssl.SSLContext, host: str, timeout_seconds: float) -> None:
        """Go on in TLS after the OK to STARTTLS. Raises OSError (ssl.SSLError among them)."""
        await self._wire.start_tls(self, context, host, timeout_seconds)
        if self.lost is not None:  # dropped during the handshake
            self._wire.abort()
            raise ConnectionError
