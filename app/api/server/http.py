"""HTTP/1.1 by uvicorn and httptools, with a deadline and a size limit for each part of a request.

uvicorn limits the size of WebSocket messages and the time of an idle connection. This module adds limits on the request
line and the header fields, on the time for a head and a body, and on clients that do not read, and answers invalid HTTP
with problem+json.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.deps import CONNECTION_KEY
from app.api.problems import HeadTooLarge, RequestTimedOut, TooManyConnections, UriTooLong, problem_response
from app.api.server.connections import CLOSE_SECONDS, Connections
from app.errors import GatewayError, MalformedRequest
from app.sockets import reset

PIECE_BYTES = 16 * 1024
"""Bytes parsed at a time: a flood of tiny requests blocks the event loop no longer than parsing these takes."""
URL_BYTES = 16 * 1024
PIPELINED_LIMIT = 100
"""Pipelined requests that may wait. Further requests are not read, and the connection ends after these."""
LINGER_SECONDS = 3.0
"""How long Postgate reads and discards data of a refused client, so that the client can read the response."""


class Reading(Enum):
    """The part of a request that the server waits for."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class ServerConfig(Config):
    """uvicorn's configuration with the table of connections for the protocol objects."""

    def __init__(self, app: Any, connections: Connections, **options: Any) -> None:
        super().__init__(app, **options)
        self.connections = connections


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._table = cast("ServerConfig", config).connections
        self._limits = self._table.limits
        self.peer_address = ""
        self.is_signed_in = False
        self._reading = Reading.HEAD
        self._began_at = self._checked_at = self.loop.time()
        self._raw_bytes = self._body_bytes = 0
        self.url = b""
        self._is_silent = True
        self._is_ending = False
        self._refusal: GatewayError | None = None
        self._stalled_at: float | None = None
        self._ends_at: float | None = None

    # ---- called by the table of connections

    @property
    def is_busy(self) -> bool:
        return self._reading is Reading.NOTHING and self.cycle is not None and not self.cycle.response_complete

    def mark_signed_in(self) -> None:
        if not self.is_signed_in:
            self.is_signed_in = True
            self._table.sign_in(self)

    def cut(self) -> None:
        self._is_ending = True
        reset(self.transport)

    def check(self, now: float) -> None:
        elapsed, self._checked_at = now - self._checked_at, now
        if self.transport.is_closing() and self._ends_at is None:
            self._ends_at = now + CLOSE_SECONDS
        if self._ends_at is not None:
            if now >= self._ends_at:
                self.cut()
        elif self._stalled_at is not None and now - self._stalled_at > self._limits.write_seconds:
            self._table.has_cut("write_time")
            self.cut()
        elif self._reading is Reading.HEAD and now - self._began_at > self._limits.head_seconds:
            self._time_out("head_time")
        elif self._reading is Reading.BODY:
            self._check_body(now, elapsed)

    def _check_body(self, now: float, elapsed: float) -> None:
        if self.flow.read_paused:  # the application has paused reading
            self._began_at += elapsed
        earned = self._body_bytes / self._limits.body_bytes_per_second
        if now - self._began_at > self._limits.body_seconds + earned:
            self._time_out("body_time")

    def _time_out(self, limit: str) -> None:
        self._table.has_cut(limit)
        if self._is_silent:  # opened in advance and never used
            self.transport.close()
        else:
            self._refuse(RequestTimedOut())

    # ---- called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.peer_address = self.client[0] if self.client else ""
        if not self._table.enter(self):
            self._refuse(TooManyConnections())

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._is_silent = False
        if self._reading is Reading.NOTHING and not self._is_ending:
            self._begin_head()
        while data and not self._is_ending:
            piece, data = data[:PIECE_BYTES], data[PIECE_BYTES:]
            self._raw_bytes += len(piece)
            super().data_received(piece)
            self._check_size()

    def pause_writing(self) -> None:
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_at = None
        super().resume_writing()

    def _check_size(self) -> None:
        if self._is_ending:
            return
        if self._reading is Reading.HEAD and self._raw_bytes > self._limits.head_bytes:
            self._table.has_cut("head_bytes")
            self._refuse(UriTooLong() if 2 * len(self.url) > self._raw_bytes else HeadTooLarge())
        elif self._reading is Reading.BODY and self._overhead_bytes > self._limits.head_bytes:
            self._refuse(MalformedRequest("The body has more framing than content"))

    @property
    def _overhead_bytes(self) -> int:
        """Bytes of chunk sizes, extensions and trailers, beyond the normal overhead of chunks."""
        return self._raw_bytes - 8 * self._body_bytes

    # ---- called by the parser

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED_LIMIT:
            raise ValueError("too many requests in advance")  # ends the parsing: see send_400_response
        super().on_message_begin()
        self.scope[CONNECTION_KEY] = self  # type: ignore[literal-required]  # Postgate's own extension of the scope
        self._begin_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            self._refusal = UriTooLong()
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is Reading.HEAD:  # trailers are dropped
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._reading = Reading.BODY
        self._began_at = self.loop.time()
        self._raw_bytes = self._body_bytes = 0
        super().on_headers_complete()
        if self.cycle is None or self.cycle.scope is not self.scope:  # upgraded to a WebSocket
            return
        self.cycle.transport = cast("asyncio.Transport", _AnswerTransport(self.transport, self.end_answered))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading = Reading.NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._reading is Reading.BODY and self._ends_at is None:  # the request was not read completely
            self._ends_at = self.loop.time() + LINGER_SECONDS

    def end_answered(self) -> None:
        """Close after the last response; first let a client that is still sending read it."""
        if self._reading is Reading.BODY:
            self._is_ending = True
            self._linger()
        else:
            self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        self._table.leave(self)  # the WebSocket protocol takes its place
        self._is_ending = True
        super().handle_websocket_upgrade()

    def _begin_head(self) -> None:
        self._reading = Reading.HEAD
        self._began_at = self.loop.time()
        self._raw_bytes = 0

    # ---- refusals

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not used
        self._refuse(self._refusal or MalformedRequest("The request is not valid HTTP/1.1"))

    def _refuse(self, error: GatewayError) -> None:
        """Send a problem, unless a response has started, and close the connection."""
        if self._is_ending or self.transport.is_closing():
            return
        self._is_ending = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._reading is not Reading.BODY or self.pipeline:
                self._end_after_answers()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(self._answer_of(error))
        self._linger()

    def _end_after_answers(self) -> None:
        """Answer the requests that were read completely, and read no more."""
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        last.keep_alive = False

    def _linger(self) -> None:
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self._ends_at = self.loop.time() + LINGER_SECONDS
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _answer_of(self, error: GatewayError) -> bytes:
        response = problem_response(error)
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)])


class _AnswerTransport:
    """The transport of a response; `close` calls back instead of closing at once, as uvicorn would."""

    __slots__ = ("_close", "_transport")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._close = close

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._close()
