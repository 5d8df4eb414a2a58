"""The socket of a stream: sends frames in order to a client that must keep reading."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import IntEnum

from pydantic import BaseModel
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.api.deps import CONNECTION_KEY
from app.api.stream.frames import text_of
from app.mail.storable import json_bytes

TAKE_SECONDS = 60.0
"""A client that reads nothing for this long is disconnected: it can resume from the event log."""


REASON_BYTES = 123
"""The largest reason of a close frame (RFC 6455 §5.5)."""


class CloseCode(IntEnum):
    NORMAL = 1000
    GOING_AWAY = 1001
    TOO_BIG = 1009
    INTERNAL = 1011
    BAD_FRAME = 4400
    TOKEN = 4401
    SCOPE = 4403
    HEARTBEAT = 4408
    TOO_MANY = 4429
    SLOW = 4490


class StreamClosed(Exception):
    """The stream ends; `code` is None if the client has already disconnected."""

    def __init__(self, code: CloseCode | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def encoded(frame: BaseModel) -> str:
    return json_bytes(frame.model_dump(mode="json", by_alias=True)).decode()


class StreamSocket:
    """Sends complete frames in order. Raises StreamClosed."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._lock = asyncio.Lock()
        self._connection = websocket.scope.get(CONNECTION_KEY)
        """The connection of Postgate's own HTTP server; None under another ASGI server."""

    async def send_frame(self, frame: bytes) -> None:
        """Send a complete WebSocket text frame; wait while the client does not read."""
        connection = self._connection
        if connection is None or self._lock.locked() or not connection.write_now(frame):
            await self.send(text_of(frame))

    async def send(self, frame: BaseModel | str) -> None:
        """Send one frame; wait while the client does not read."""
        text = frame if isinstance(frame, str) else encoded(frame)
        try:
            async with self._lock, asyncio.timeout(TAKE_SECONDS):
                await self._websocket.send_text(text)
        except TimeoutError:
            raise StreamClosed(CloseCode.SLOW, "the client read nothing for too long") from None
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise StreamClosed(None) from None

    async def receive(self) -> str | None:
        """Return the next frame's text; None for a binary frame."""
        try:
            message = await self._websocket.receive()
        except (WebSocketDisconnect, RuntimeError):
            raise StreamClosed(None) from None
        if message["type"] == "websocket.disconnect":
            raise StreamClosed(None)
        text = message.get("text")
        return text if isinstance(text, str) else None

    async def finish(self, bye: BaseModel, code: CloseCode, reason: str) -> None:
        """Send the last frame and close, even if the client does not read."""
        reason = reason.encode()[:REASON_BYTES].decode(errors="ignore")
        if self._connection is not None:
            self._connection.finish(encoded(bye), code, reason)
            return
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError, OSError):  # under another ASGI server
            async with asyncio.timeout(1):
                await self._websocket.send_text(encoded(bye))
                await self._websocket.close(code, reason)
