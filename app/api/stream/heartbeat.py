"""Disconnects silent clients, and warns clients before their token expires."""

from __future__ import annotations

import asyncio

from app.api.schemas.base import time_of
from app.api.schemas.stream import LifecycleFrame, PingFrame
from app.api.stream.socket import CloseCode, StreamClosed, StreamSocket
from app.mail.identifiers import now_ms

HEARTBEAT_SECONDS = 25
EXPIRY_WARNING_SECONDS = 60


class Heartbeat:
    """Pings one client."""

    def __init__(self, socket: StreamSocket) -> None:
        self._socket = socket
        self._last_frame_at = asyncio.get_running_loop().time()
        self._expires_at_ms: int | None = None
        self._is_warned = False

    def note_frame(self) -> None:
        """Record that the client has sent a frame."""
        self._last_frame_at = asyncio.get_running_loop().time()

    def set_expiry(self, expires_at_ms: int | None) -> None:
        """Set when the stream's new token expires; None: never."""
        self._expires_at_ms = expires_at_ms
        self._is_warned = False

    async def run(self) -> None:
        """Ping and warn until the client has been silent for too long. Raises StreamClosed."""
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + HEARTBEAT_SECONDS
        while True:
            await asyncio.sleep(max(0.05, min(next_ping - loop.time(), self._seconds_to_warning())))
            await self._warn_of_expiry()
            if loop.time() < next_ping:
                continue
            if loop.time() - self._last_frame_at > 2 * HEARTBEAT_SECONDS + 1:
                raise StreamClosed(CloseCode.HEARTBEAT, "no answer to two pings")
            await self._socket.send(PingFrame(type="ping"))
            next_ping = loop.time() + HEARTBEAT_SECONDS

    def _seconds_to_warning(self) -> float:
        if self._expires_at_ms is None or self._is_warned:
            return HEARTBEAT_SECONDS
        return (self._expires_at_ms - now_ms()) / 1000 - EXPIRY_WARNING_SECONDS

    async def _warn_of_expiry(self) -> None:
        if self._expires_at_ms is None or self._is_warned:
            return
        if self._expires_at_ms - now_ms() <= EXPIRY_WARNING_SECONDS * 1000:
            self._is_warned = True
            await self._socket.send(LifecycleFrame(event="token.expiring", expires_at=time_of(self._expires_at_ms)))
