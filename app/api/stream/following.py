"""Follows the logs of a stream's accounts and sends what its subscriptions want, as fast as the socket takes it."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from app.api.schemas.stream import GapFrame, StateFrame
from app.api.stream.socket import StreamSocket
from app.cluster.bus import ACCOUNTS, Waiter
from app.errors import AccountNotFound, StateExpired
from app.mail.types import AccountId, Position
from app.mailstore.log import Event
from app.services.accounts import Accounts
from app.services.callers import Caller
from app.services.changes import BEGINNING
from app.services.events import Events
from app.services.states import States
from app.services.subscriptions import Subscription

OVERLOAD_EVENTS = 10_000
"""Further behind than this, a subscriber is told states instead of events until it has caught up."""
IDLE_SECONDS = 60.0
"""How long a lost wake-up can delay an event."""


class Following:
    """The subscriptions of one stream, and the task that serves them."""

    def __init__(
        self,
        socket: StreamSocket,
        events: Events,
        states: States,
        accounts: Accounts,
    ) -> None:
        self._socket = socket
        self._events = events
        self._states = states
        self._accounts = accounts
        self._waiter = Waiter()
        self._listened: set[str] = set()
        self.subscriptions: dict[str, Subscription] = {}

    async def add(self, subscription: Subscription) -> None:
        """Serve a subscription from its positions on; one of the same id is replaced."""
        await self._resolve_roles(subscription, subscription.positions)
        self.subscriptions[subscription.id] = subscription
        self._listen()
        for account_id in subscription.positions:
            self._waiter.poke(account_id)

    def remove(self, sub_id: str) -> None:
        self.subscriptions.pop(sub_id, None)
        self._listen()

    def close(self) -> None:
        self.subscriptions.clear()
        self._listen()

    def positions(self) -> dict[AccountId, Position]:
        """How far every subscription has heard each account."""
        found: dict[AccountId, Position] = {}
        for subscription in self.subscriptions.values():
            for account_id, position in subscription.positions.items():
                found[account_id] = min(position, found.get(account_id, position))
        return found

    async def run(self, caller: Caller) -> None:
        """Send events for ever. `caller` decides which accounts `*` means."""
        while True:
            topics = await self._waiter.wait(IDLE_SECONDS)
            if ACCOUNTS in topics:
                await self._follow_new_accounts(caller)
            wanted = self.positions()
            for account_id in wanted if not topics else [one for one in wanted if one in topics]:
                await self._catch_up(account_id)

    def _listen(self) -> None:
        wanted: set[str] = set()
        for subscription in self.subscriptions.values():
            wanted.update(subscription.positions)
            if subscription.is_every_account:
                wanted.add(ACCOUNTS)
        for topic in wanted - self._listened:
            self._events.bus.listen(self._waiter, topic)
        for topic in self._listened - wanted:
            self._events.bus.leave(self._waiter, topic)
        self._listened = wanted

    async def _follow_new_accounts(self, caller: Caller) -> None:
        for subscription in [one for one in self.subscriptions.values() if one.is_every_account]:
            for account_id in await self._accounts.visible_ids(caller):
                if account_id not in subscription.positions:
                    subscription.positions[account_id] = BEGINNING
                    self._waiter.poke(account_id)
        self._listen()

    async def _catch_up(self, account_id: AccountId) -> None:
        """Send what an account's log holds beyond what was sent."""
        while True:
            following = [one for one in self.subscriptions.values() if account_id in one.positions]
            if not following:
                return
            position = min(one.positions[account_id] for one in following)
            try:
                if await self._is_overloaded(account_id, position, following):
                    return
                events = await self._events.after(account_id, position)
            except StateExpired:
                await self._tell_gap(account_id, position, following)
                continue
            except AccountNotFound:
                self._forget(account_id)
                return
            if not events:
                return
            await self._tell(account_id, events, following)

    async def _tell(self, account_id: AccountId, events: list[Event], following: Iterable[Subscription]) -> None:
        for event in events:
            if event.type.startswith("mailbox."):
                for subscription in following:
                    await self._resolve_roles(subscription, [account_id])
            for seen, group in await self._told(event, following):
                await self._socket.send(self._frame(seen, group))
            for subscription in following:
                subscription.positions[account_id] = max(event.position, subscription.positions[account_id])

    async def _told(self, event: Event, following: Iterable[Subscription]) -> list[tuple[Event, list[Subscription]]]:
        """The event as it is seen, and the subscriptions that take the same frame."""
        groups: dict[tuple[bytes, str], tuple[Event, list[Subscription]]] = {}
        for one in following:
            if one.positions[event.account_id] >= event.position:
                continue
            seen = await self._events.seen(event, one.visible)
            if seen is not None and one.wants(seen):
                groups.setdefault((seen.body, one.view), (seen, []))[1].append(one)
        return list(groups.values())

    def _frame(self, event: Event, group: list[Subscription]) -> bytes:
        cursor = self._states.issue(event.account_id, event.position)
        body = event.body if group[0].view == "summary" else _without_message(event.body)
        head = {"type": "event", "sub_ids": [one.id for one in group], "seq": event.seq, "cursor": cursor}
        return orjson.dumps(head)[:-1] + b',"event":' + body + b"}"

    async def _is_overloaded(
        self, account_id: AccountId, position: Position, following: Iterable[Subscription]
    ) -> bool:
        last = await self._events.position(account_id)
        if last.seq - position.seq <= OVERLOAD_EVENTS:
            return False
        await self._socket.send(StateFrame(states={account_id: self._states.issue(account_id, last)}))
        for subscription in following:
            subscription.positions[account_id] = max(last, subscription.positions[account_id])
        self._waiter.poke(account_id)
        return True

    async def _tell_gap(self, account_id: AccountId, position: Position, following: Iterable[Subscription]) -> None:
        span = await self._events.span(account_id)
        end = (
            span.last if position.seq >= span.first.seq else span.first
        )  # past the first: it is of a log that was lost
        await self._socket.send(
            GapFrame.model_validate(
                {
                    "account_id": account_id,
                    "from": self._states.issue(account_id, position),
                    "to": self._states.issue(account_id, end),
                    "reason": "these events are not kept any more",
                }
            )
        )
        for subscription in following:
            if subscription.positions[account_id] < end or subscription.positions[account_id] == position:
                subscription.positions[account_id] = end

    def _forget(self, account_id: AccountId) -> None:
        for subscription in self.subscriptions.values():
            subscription.positions.pop(account_id, None)
        self._listen()

    async def _resolve_roles(self, subscription: Subscription, accounts: Iterable[AccountId]) -> None:
        if not subscription.roles:
            return
        for account_id in accounts:
            subscription.role_mailbox_ids |= await self._events.mailboxes_with(account_id, subscription.roles)


def _without_message(body: bytes) -> bytes:
    """The event for `view=ids`: the id of a message in place of its summary."""
    event = orjson.loads(body)
    message = event["data"].get("message")
    if message is not None:
        event["data"]["message"] = {"id": message["id"]}
    return orjson.dumps(event)
