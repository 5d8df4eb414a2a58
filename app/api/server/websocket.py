"""WebSockets by uvicorn and websockets, with limits on control frames and fragments.

uvicorn limits the size of messages and stops reading while a message waits for the application, but does not limit
control frames and fragments. This module parses them in small pieces and limits their rate.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from typing import Any, cast

from uvicorn._types import ASGIReceiveEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import RequestLineTooLong
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from app.api.deps import CONNECTION_KEY
from app.api.problems import REQUEST_ID, HeadTooLarge, UriTooLong, problem_response
from app.api.server.connections import CLOSE_SECONDS
from app.api.server.http import ServerConfig
from app.cause import current_request_id
from app.sockets import bound_send_buffer, reset

PIECE_BYTES = 4 * 1024
"""Bytes parsed at a time: about 680 frames at most."""
FRAMES_PER_SECOND = 500
FRAMES_AT_ONCE = 2_000
"""The burst of frames allowed after a pause of a few seconds."""
FRAMES_OF_STRANGER = 50
"""Frames allowed before authentication; after more the connection is closed."""
FRAGMENTS_LIMIT = 1_024
"""The largest number of frames of one message."""


SEND_BUFFER_BYTES = 128 * 1024
"""The kernel's send buffer for a client that does not read; its default is megabytes."""


class _Handshake(ServerProtocol):
    """The protocol of websockets, with a request id in every handshake response."""

    def send_response(self, response: Response) -> None:
        if REQUEST_ID not in response.headers:
            response.headers[REQUEST_ID] = current_request_id()
        super().send_response(response)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = _Handshake(
            extensions=self.conn.available_extensions, max_size=config.ws_max_size, logger=self.conn.logger
        )
        self._table = cast("ServerConfig", config).connections
        self.peer_address = ""
        self.is_signed_in = False
        self._arrived = bytearray()
        self._frames = 0
        self._credit = float(FRAMES_AT_ONCE)
        self._credited_at = self.loop.time()
        self._resuming: asyncio.TimerHandle | None = None
        self._ends_at: float | None = None

    # ---- called by the table of connections

    @property
    def is_busy(self) -> bool:
        return self.is_signed_in

    def mark_signed_in(self) -> None:
        if not self.is_signed_in:
            self.is_signed_in = True
            self._table.sign_in(self)

    def cut(self) -> None:
        reset(self.transport)

    def check(self, now: float) -> None:
        if not self.transport.is_closing():
            return
        if self._ends_at is None:
            self._ends_at = now + CLOSE_SECONDS
        elif now >= self._ends_at:
            self.cut()

    # ---- called by the transport

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        bound_send_buffer(transport, SEND_BUFFER_BYTES)
        self.peer_address = self.client[0] if self.client else ""
        if not self._table.enter(self):
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.leave(self)
        self._arrived.clear()
        if self._resuming is not None:
            self._resuming.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        self._parse()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if self._arrived and self._resuming is None:
            self._parse()
        return message

    def _parse(self) -> None:
        """Parse received bytes until a message waits for the application, or the frame rate is exceeded."""
        self._resuming = None
        while self._arrived and not self.read_paused and not self.transport.is_closing():
            if self._is_out_of_credit():
                delay = FRAMES_AT_ONCE / FRAMES_PER_SECOND / 4
                self._resuming = self.loop.call_later(delay, self._parse)
                break
            piece = bytes(self._arrived[:PIECE_BYTES])
            del self._arrived[:PIECE_BYTES]
            super().data_received(piece)
            self._check_handshake()
        if self.transport.is_closing():
            self._arrived.clear()
        elif self._arrived:
            self.transport.pause_reading()
        elif not self.read_paused:
            self.transport.resume_reading()

    def _is_out_of_credit(self) -> bool:
        now = self.loop.time()
        self._credit = min(FRAMES_AT_ONCE, self._credit + (now - self._credited_at) * FRAMES_PER_SECOND)
        self._credited_at = now
        return self._credit <= 0

    # ---- called by the application

    def write_now(self, frame: bytes) -> bool:
        """Send a complete frame; return False, unsent, if the client does not read or the connection is ending."""
        if not self.writable.is_set() or self.close_sent or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True

    def finish(self, text: str, code: int, reason: str) -> None:
        """Send a last frame and the close frame after all pending output.

        A client that reads again within CLOSE_SECONDS gets the reason. Then the connection is reset.
        """
        if self.close_sent or self.disconnected:
            return
        self.conn.send_text(text.encode())
        self.conn.send_close(code, reason)
        self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.read_paused:  # for the client's close frame
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, reset, self.transport)

    # ---- frames

    def handle_events(self) -> None:
        """Count each frame, then handle the events as uvicorn does."""
        events = self.conn.events_received()
        count = sum(isinstance(event, Frame) for event in events)
        self._frames += count
        self._credit -= count
        if not self.is_signed_in and self._frames > FRAMES_OF_STRANGER:
            self._fail(CloseCode.POLICY_VIOLATION, "too many frames before authentication")
        elif len(self.frames) + count > FRAGMENTS_LIMIT and any(_is_fragment(event) for event in events):
            self._fail(CloseCode.MESSAGE_TOO_BIG, "a message has too many frames")
        else:
            self.conn.events[:0] = events
            super().handle_events()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope[CONNECTION_KEY] = self  # type: ignore[literal-required]  # Postgate's own extension

    def handle_ping(self) -> None:
        """Send a pong unless the client does not read: only the latest ping needs a pong (RFC 6455 §5.5.3)."""
        output = self.conn.data_to_send()
        if self.writable.is_set():
            self.transport.write(b"".join(output))

    def _fail(self, code: CloseCode, reason: str) -> None:
        self._table.has_cut("frames")
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def _check_handshake(self) -> None:
        """Refuse a handshake whose lines are too long for websockets; uvicorn would leave the connection open."""
        error = self.conn.handshake_exc
        if error is None or self.handshake_initiated:
            return
        response = problem_response(UriTooLong() if isinstance(error, RequestLineTooLong) else HeadTooLarge())
        lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
        head = [STATUS_LINE[response.status_code], *lines, b"connection: close\r\n\r\n"]
        self.transport.write(b"".join([*head, bytes(response.body)]))
        self.transport.close()


def _is_fragment(event: object) -> bool:
    return isinstance(event, Frame) and not event.fin
