"""One client's stream: authentication, frames, subscriptions and heartbeat."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from starlette.websockets import WebSocket

from app.api.deps import Services, mark_signed_in
from app.api.problems import problem_of
from app.api.schemas.base import time_of
from app.api.schemas.stream import (
    CLIENT_FRAME,
    AckFrame,
    AuthenticatedFrame,
    AuthFrame,
    ByeFrame,
    HelloFrame,
    PingFrame,
    PongFrame,
    RequestFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from app.api.stream.calls import CALLS_LIMIT, Calls
from app.api.stream.following import Following
from app.api.stream.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from app.api.stream.refusals import NO_NAMES, FrameNames, frame_error, names_in, names_of
from app.api.stream.socket import CloseCode, StreamClosed, StreamSocket
from app.api.stream.subscribing import SUBSCRIPTIONS_LIMIT, Subscribing
from app.cluster.bus import Waiter
from app.errors import (
    GatewayError,
    NotAuthenticated,
    NotPermitted,
    TokenExpired,
    TokenRevoked,
)
from app.mail.identifiers import new_id, now_ms
from app.mail.storable import json_bytes
from app.services.access.callers import Caller, Scope
from app.services.access.watch import Guard
from app.telemetry import get_logger

log = get_logger(__name__)

AUTH_SECONDS = 5.0
_REASONS: dict[type[NotAuthenticated], str] = {
    TokenExpired: "the token has expired",
    TokenRevoked: "the token was revoked",
}
"""Reasons of close code 4401."""

IsAllowed = Callable[[Caller], bool]


class StreamSession:
    """Runs one accepted WebSocket until it ends."""

    def __init__(self, websocket: WebSocket, services: Services, caller: Caller | None, is_allowed: IsAllowed) -> None:
        self._websocket = websocket
        self._services = services
        self._caller = caller
        self._is_allowed = is_allowed
        self._socket = StreamSocket(websocket)
        self._following = Following(
            self._socket, services.events, services.states, services.accounts, services.turns, services.counts
        )
        self._subscribing = Subscribing(self._socket, services, self._following)
        self._calls = Calls(websocket, self._socket)
        self._heartbeat = Heartbeat(self._socket)
        self._revoked = Waiter()
        self._guard: Guard | None = None

    async def run(self) -> None:
        """Serve the client until either side ends the stream; send `bye` if possible."""
        try:
            await self._welcome()
            async with asyncio.TaskGroup() as group:
                parts = (self._listen(group), self._following.run(), self._heartbeat.run(), self._leave_when_draining())
                for part in (*parts, self._leave_when_revoked()):
                    group.create_task(part)
        except* StreamClosed as closed:
            await self._say_bye(_first(closed))
        finally:
            self._following.close()
            self._set_guard(None)

    async def _welcome(self) -> None:
        limits = {"subscriptions": SUBSCRIPTIONS_LIMIT, "calls": CALLS_LIMIT}
        await self._socket.send(
            HelloFrame(
                session_id=new_id("ses"),
                heartbeat_seconds=HEARTBEAT_SECONDS,
                limits=limits,
                server_time=time_of(now_ms()),
            )
        )
        if self._caller is not None:
            self._enter(self._caller)
            return
        try:
            async with asyncio.timeout(AUTH_SECONDS):
                frame = await self._next_frame()
        except TimeoutError:
            raise StreamClosed(CloseCode.TOKEN, "no auth frame arrived in time") from None
        if not isinstance(frame, AuthFrame):
            raise StreamClosed(CloseCode.TOKEN, "the first frame must be auth")
        await self._authenticate(frame)

    async def _say_bye(self, closed: StreamClosed) -> None:
        if closed.code is None:
            return
        cursors = {
            account_id: self._services.states.issue(account_id, position)
            for account_id, position in self._following.positions().items()
        }
        delay = 1 + secrets.randbelow(5) if closed.code is CloseCode.GOING_AWAY else None
        bye = ByeFrame(code=closed.code, reason=closed.reason, reconnect_after=delay, cursor=cursors)
        await self._socket.finish(bye, closed.code, closed.reason)

    # ---- tasks

    async def _leave_when_revoked(self) -> None:
        """Close at once when the token is revoked or expires, even while a frame waits for the client."""
        while True:
            await self._revoked.wait()
            if self._guard is not None and self._guard.ended is not None:
                raise StreamClosed(CloseCode.TOKEN, _REASONS[type(self._guard.ended)])

    async def _leave_when_draining(self) -> None:
        await self._services.draining.wait()
        raise StreamClosed(CloseCode.GOING_AWAY, "the server restarts")

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            frame = await self._next_frame()
            try:
                await self._take(frame, group)
            except StreamClosed:
                raise
            except GatewayError as error:
                await self._send_error(error, names_of(frame))
            except Exception as error:  # noqa: BLE001 - an error of one frame: the socket continues
                log.error("frame_failed", error=type(error).__name__)
                await self._send_error(GatewayError(), names_of(frame))

    async def _next_frame(self) -> Any:
        """Return the next valid frame. An invalid frame gets an `error` frame, and the stream continues."""
        while True:
            text = await self._socket.receive()
            self._heartbeat.note_frame()
            try:
                return CLIENT_FRAME.validate_json(text or "")
            except ValidationError as error:
                await self._send_error(frame_error(error), names_in(text))

    async def _send_error(self, error: GatewayError, names: FrameNames) -> None:
        await self._socket.send(error_frame(error, names))

    # ---- frames

    async def _take(self, frame: Any, group: asyncio.TaskGroup) -> None:
        match frame:
            case SubscribeFrame():
                await self._subscribing.subscribe(frame, self._require_caller())
            case UnsubscribeFrame():
                self._subscribing.unsubscribe(frame)
            case AckFrame():
                await self._subscribing.acknowledge(frame, self._require_caller())
            case AuthFrame():
                await self._authenticate(frame)
            case PingFrame():
                await self._socket.send(PongFrame(type="pong", id=frame.id))
            case RequestFrame():
                self._calls.start(frame, self._require_caller(), group)

    async def _authenticate(self, frame: AuthFrame) -> None:
        client = self._websocket.client
        try:
            caller = await self._services.tokens.authenticate(frame.token, client.host if client else None)
            caller.require(Scope.PUSH)
        except NotAuthenticated:
            raise StreamClosed(CloseCode.TOKEN, "the token is not valid") from None
        except NotPermitted:
            raise StreamClosed(CloseCode.SCOPE, "the token lacks the scope push") from None
        if not self._is_allowed(caller):
            raise StreamClosed(CloseCode.SCOPE, "the token is not allowed from this web origin")
        followed = self._following.positions()
        if caller.account_ids is not None and not caller.account_ids.issuperset(followed):
            raise StreamClosed(CloseCode.SCOPE, "the new token does not include the accounts of the old one")
        self._enter(caller)
        mark_signed_in(self._websocket)
        expires_at = None if caller.expires_at_ms is None else time_of(caller.expires_at_ms)
        await self._socket.send(AuthenticatedFrame(expires_at=expires_at))

    def _enter(self, caller: Caller) -> None:
        """Use this caller's rights from now on."""
        self._caller = caller
        self._following.set_caller(caller)
        self._heartbeat.set_expiry(caller.expires_at_ms)
        self._set_guard(self._services.access.begin(caller, self._revoked))

    def _set_guard(self, guard: Guard | None) -> None:
        before, self._guard = self._guard, guard
        if before is not None:
            self._services.access.end(before)

    def _require_caller(self) -> Caller:
        assert self._caller is not None
        return self._caller


def error_frame(error: GatewayError, names: FrameNames = NO_NAMES) -> str:
    """Return an ErrorFrame with the problem that HTTP would return. `names`: the names of the failed frame."""
    return json_bytes({"type": "error", "problem": problem_of(error), **names._asdict()}).decode()


def _first(group: BaseExceptionGroup[StreamClosed]) -> StreamClosed:
    """Return why the stream ended: a reason with a close code before the plain end of the socket."""
    closings: list[StreamClosed] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        elif isinstance(error, StreamClosed):
            closings.append(error)
    return next((closing for closing in closings if closing.code is not None), closings[0])
