"""One client's stream: who it is, what it asked for, and that it is still there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.websockets import WebSocket

from app.api.deps import Services, mark_signed_in
from app.api.problems import problem_of
from app.api.schemas.base import Sync, time_of
from app.api.schemas.stream import (
    CLIENT_FRAME,
    AckFrame,
    AuthenticatedFrame,
    AuthFrame,
    ByeFrame,
    HelloFrame,
    LifecycleFrame,
    PingFrame,
    PongFrame,
    RequestFrame,
    ResponseFrame,
    SubscribedFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from app.api.stream.calls import call
from app.api.stream.following import Following
from app.api.stream.refusals import check_names, frame_error
from app.api.stream.socket import CloseCode, StreamClosed, StreamSocket
from app.cluster.bus import Waiter
from app.errors import (
    GatewayError,
    InvalidRequest,
    MailboxNotFound,
    NotAuthenticated,
    NotPermitted,
    TokenExpired,
    TokenRevoked,
)
from app.mail.identifiers import new_id, now_ms
from app.mail.storable import json_bytes
from app.mail.types import AccountId, Position
from app.services.access import Guard
from app.services.callers import Caller, Scope
from app.services.subscriptions import Subscription
from app.telemetry import get_logger

log = get_logger(__name__)

HEARTBEAT_SECONDS = 25
AUTH_SECONDS = 5.0
EXPIRY_WARNING_SECONDS = 60
SUBSCRIPTIONS_LIMIT = 100
CALLS_LIMIT = 8
"""REST calls under way at once on one socket."""
_REASONS: dict[type[NotAuthenticated], str] = {
    TokenExpired: "the token has expired",
    TokenRevoked: "the token was revoked",
}
"""Why a socket is closed with 4401."""

IsAllowed = Callable[[Caller], bool]


@dataclass(slots=True)
class _Life:
    """When the client was last heard, and whether it was warned of its token's end."""

    heard_at: float
    is_warned: bool = False


class StreamSession:
    """Runs one accepted WebSocket to its end."""

    def __init__(self, websocket: WebSocket, services: Services, caller: Caller | None, is_allowed: IsAllowed) -> None:
        self._websocket = websocket
        self._services = services
        self._caller = caller
        self._is_allowed = is_allowed
        self._socket = StreamSocket(websocket)
        self._following = Following(
            self._socket, services.events, services.states, services.accounts, services.turns, services.counts
        )
        self._life = _Life(asyncio.get_running_loop().time())
        self._revoked = Waiter()
        self._guard: Guard | None = None
        self._calls = 0

    async def run(self) -> None:
        """Talk until either side ends it; says `bye` where it still can."""
        try:
            await self._welcome()
            async with asyncio.TaskGroup() as group:
                parts = (self._listen(group), self._following.run(), self._keep_alive(), self._leave_when_draining())
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
            raise StreamClosed(CloseCode.TOKEN, "no auth frame came") from None
        if not isinstance(frame, AuthFrame):
            raise StreamClosed(CloseCode.TOKEN, "an auth frame comes first")
        await self._authenticate(frame)

    async def _say_bye(self, closed: StreamClosed) -> None:
        if closed.code is None:
            return
        cursors = {
            one: self._services.states.issue(one, position) for one, position in self._following.positions().items()
        }
        delay = 1 + secrets.randbelow(5) if closed.code is CloseCode.GOING_AWAY else None
        bye = ByeFrame(code=closed.code, reason=closed.reason, reconnect_after=delay, cursor=cursors)
        await self._socket.finish(bye, closed.code, closed.reason)

    # ---- tasks

    async def _leave_when_revoked(self) -> None:
        """End at once when the token is revoked or expires, also while a frame waits for the client."""
        while True:
            await self._revoked.wait()
            if self._guard is not None and self._guard.ended is not None:
                raise StreamClosed(CloseCode.TOKEN, _REASONS[type(self._guard.ended)])

    async def _leave_when_draining(self) -> None:
        await self._services.draining.wait()
        raise StreamClosed(CloseCode.GOING_AWAY, "the server restarts")

    async def _keep_alive(self) -> None:
        """Ping, notice silence, and warn of the token's end."""
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + HEARTBEAT_SECONDS
        while True:
            await asyncio.sleep(max(0.05, min(next_ping - loop.time(), self._seconds_to_expiry_step())))
            await self._warn_of_expiry()
            if loop.time() < next_ping:
                continue
            if loop.time() - self._life.heard_at > 2 * HEARTBEAT_SECONDS + 1:
                raise StreamClosed(CloseCode.HEARTBEAT, "no answer to two pings")
            await self._socket.send(PingFrame(type="ping"))
            next_ping = loop.time() + HEARTBEAT_SECONDS

    def _seconds_to_expiry_step(self) -> float:
        expires_at_ms = self._who().expires_at_ms
        if expires_at_ms is None or self._life.is_warned:
            return HEARTBEAT_SECONDS
        return (expires_at_ms - now_ms()) / 1000 - EXPIRY_WARNING_SECONDS

    async def _warn_of_expiry(self) -> None:
        expires_at_ms = self._who().expires_at_ms
        if expires_at_ms is None:
            return
        if not self._life.is_warned and expires_at_ms - now_ms() <= EXPIRY_WARNING_SECONDS * 1000:
            self._life.is_warned = True
            await self._socket.send(LifecycleFrame(event="token.expiring", expires_at=time_of(expires_at_ms)))

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        while True:
            frame = await self._next_frame()
            try:
                await self._take(frame, group)
            except StreamClosed:
                raise
            except GatewayError as error:
                await self._send_error(error, getattr(frame, "sub_id", None))
            except Exception as error:  # noqa: BLE001 - a fault of one frame: the socket goes on
                log.error("frame_failed", error=type(error).__name__)
                await self._send_error(GatewayError(), getattr(frame, "sub_id", None))

    async def _next_frame(self) -> Any:
        """The next frame that can be read. Any other is answered by an error, and the stream goes on."""
        while True:
            text = await self._socket.receive()
            self._life.heard_at = asyncio.get_running_loop().time()
            try:
                return CLIENT_FRAME.validate_json(text or "")
            except ValidationError as error:
                await self._send_error(frame_error(error), None)

    async def _send_error(self, error: GatewayError, sub_id: str | None) -> None:
        await self._socket.send(error_frame(error, sub_id))

    # ---- frames

    async def _take(self, frame: Any, group: asyncio.TaskGroup) -> None:
        handlers: dict[type[Any], Callable[[Any], Awaitable[None]]] = {
            SubscribeFrame: self._subscribe,
            UnsubscribeFrame: self._unsubscribe,
            AckFrame: self._acknowledge,
            AuthFrame: self._authenticate,
            PingFrame: self._answer_ping,
        }
        if isinstance(frame, RequestFrame):
            self._start_call(frame, group)
        elif type(frame) in handlers:
            await handlers[type(frame)](frame)

    async def _answer_ping(self, frame: PingFrame) -> None:
        await self._socket.send(PongFrame(type="pong", id=frame.id))

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
            raise StreamClosed(CloseCode.SCOPE, "the token may not be used from pages of this origin")
        followed = self._following.positions()
        if caller.account_ids is not None and not caller.account_ids.issuperset(followed):
            raise StreamClosed(CloseCode.SCOPE, "the new token does not hold the accounts of the old one")
        self._enter(caller)
        mark_signed_in(self._websocket)
        expires_at = None if caller.expires_at_ms is None else time_of(caller.expires_at_ms)
        await self._socket.send(AuthenticatedFrame(expires_at=expires_at))

    def _enter(self, caller: Caller) -> None:
        """Everything from here on is done and seen by this caller's rights."""
        self._caller = caller
        self._following.set_caller(caller)
        self._life.is_warned = False
        self._set_guard(self._services.access.begin(caller, self._revoked))

    def _set_guard(self, guard: Guard | None) -> None:
        before, self._guard = self._guard, guard
        if before is not None:
            self._services.access.end(before)

    async def _subscribe(self, frame: SubscribeFrame) -> None:
        if len(self._following.subscriptions) >= SUBSCRIPTIONS_LIMIT:
            raise StreamClosed(CloseCode.TOO_MANY, "too many subscriptions")
        check_names(frame)
        caller = self._who()
        account_ids = await self._accounts_of(frame, caller)
        mailbox_ids = frame.mailboxes if isinstance(frame.mailboxes, list) else None
        await self._check_mailboxes(mailbox_ids or [], account_ids, caller)
        begin = {one: await self._position(frame, one, caller) for one in account_ids}
        subscription = Subscription(
            frame.sub_id,
            frame.accounts == "*",
            dict(begin),
            frozenset(mailbox_ids) if mailbox_ids is not None else None,
            frozenset(frame.roles or ()),
            frozenset(frame.types) if frame.types is not None else None,
            frame.view,
            frame.consumer,
        )
        cursors = {one: self._services.states.issue(one, position) for one, position in begin.items()}
        sync = {one: Sync.of(await self._services.accounts.sync(one)) for one in account_ids}
        await self._socket.send(SubscribedFrame(sub_id=frame.sub_id, cursor=cursors, state=cursors, sync=sync))
        await self._following.add(subscription)

    async def _check_mailboxes(self, mailbox_ids: list[str], account_ids: list[AccountId], caller: Caller) -> None:
        """Each is one of the accounts'. MailboxNotFound."""
        events = self._services.events
        known = {found.id for one in account_ids for found in await events.mailboxes(one, caller, mailbox_ids)}
        for mailbox_id in mailbox_ids:
            caller.require_mailbox(mailbox_id)
            if mailbox_id not in known:
                raise MailboxNotFound

    async def _accounts_of(self, frame: SubscribeFrame, caller: Caller) -> list[AccountId]:
        visible = await self._services.accounts.visible_ids(caller)
        if frame.accounts == "*":
            return list(visible)
        found = [caller.account(one) for one in frame.accounts]
        for number, account_id in enumerate(found):
            if account_id not in visible:
                raise InvalidRequest.at(f"/accounts/{number}", "There is no such account")
        return list(dict.fromkeys(found))

    async def _position(self, frame: SubscribeFrame, account_id: AccountId, caller: Caller) -> Position:
        """After which event a subscription begins."""
        after = frame.after.get(account_id) if isinstance(frame.after, dict) else frame.after
        events = self._services.events
        if after is None and frame.consumer is not None:
            place = await self._services.consumers.place(account_id, caller, frame.consumer)
            return await (events.position(account_id) if place is None else events.place(account_id, place))
        if after is None or after == "now":
            return await events.position(account_id)
        if after == "earliest":
            return await events.earliest(account_id)
        return self._services.states.read(after, account_id, "after")

    async def _unsubscribe(self, frame: UnsubscribeFrame) -> None:
        self._following.remove(frame.sub_id)

    async def _acknowledge(self, frame: AckFrame) -> None:
        followed = self._following.positions()
        account_id = frame.account_id or (next(iter(followed)) if len(followed) == 1 else None)
        if account_id is None or account_id not in followed:
            raise InvalidRequest.at("/account_id", "Name the account that the cursor belongs to")
        position = self._services.states.read(frame.cursor, AccountId(account_id), "cursor")
        name = self._consumer_of(frame, AccountId(account_id))
        if name is not None:
            await self._services.consumers.acknowledge(AccountId(account_id), self._who(), name, position.seq)

    def _consumer_of(self, frame: AckFrame, account_id: AccountId) -> str | None:
        """The name that an acknowledgement is kept for: that of its own subscription, None where it has none."""
        following = [one for one in self._following.subscriptions.values() if account_id in one.positions]
        if frame.sub_id is not None:
            following = [one for one in following if one.id == frame.sub_id]
            if not following:
                raise InvalidRequest.at("/sub_id", "No subscription of this id follows the account")
        names = {one.consumer for one in following if one.consumer is not None}
        if len(names) > 1:
            raise InvalidRequest.at("/sub_id", "Name the subscription: several with a consumer follow the account")
        return next(iter(names), None)

    def _start_call(self, frame: RequestFrame, group: asyncio.TaskGroup) -> None:
        if self._calls >= CALLS_LIMIT:
            raise StreamClosed(CloseCode.TOO_MANY, "too many calls at once")
        self._calls += 1
        group.create_task(self._call(frame))

    async def _call(self, frame: RequestFrame) -> None:
        try:
            await self._socket.send(await call(self._websocket.app, self._websocket, self._who(), frame))
        except StreamClosed:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of one call: the socket and its other calls go on
            log.error("call_failed", error=type(error).__name__)
            problem = problem_of(GatewayError())
            await self._socket.send(ResponseFrame(id=frame.id, status=500, headers={}, body=problem))
        finally:
            self._calls -= 1

    def _who(self) -> Caller:
        assert self._caller is not None
        return self._caller


def error_frame(error: GatewayError, sub_id: str | None = None) -> str:
    """The frame (ErrorFrame) that tells of an error what HTTP tells of it, to the letter."""
    return json_bytes({"type": "error", "problem": problem_of(error), "sub_id": sub_id}).decode()


def _first(group: BaseExceptionGroup[StreamClosed]) -> StreamClosed:
    """Why it ended: a reason of ours before the mere end of the socket."""
    found: list[StreamClosed] = []
    waiting: list[BaseException] = [group]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(one.exceptions)
        elif isinstance(one, StreamClosed):
            found.append(one)
    return next((one for one in found if one.code is not None), found[0])
