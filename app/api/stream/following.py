"""Follows the event logs of a stream's accounts and sends events as fast as the socket accepts them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence, Set

from app.api.schemas.stream import GapFrame, StateFrame
from app.api.stream.badges import Badges
from app.api.stream.frames import event_frame
from app.api.stream.socket import StreamSocket
from app.api.stream.turns import Turns
from app.cluster.bus import ACCOUNTS
from app.errors import AccountNotFound, GatewayError, StateExpired
from app.mail.event_log import Event
from app.mail.types import AccountId, Position
from app.services.access.callers import Caller
from app.services.accounts.accounts import Accounts
from app.services.following.changes import BEGINNING
from app.services.following.counts import Counts, Sight, seen_by
from app.services.following.events import Events
from app.services.following.states import States
from app.services.following.subscriptions import Subscription

OVERLOAD_EVENTS = 10_000
"""A subscriber that is further behind gets a `state` frame instead of the events."""
SLICE_EVENTS = 25
"""Events sent to one subscriber in one turn of the event loop."""
RETRY_SECONDS = 2.0
"""The delay before reading again after a database failure."""


class Following:
    """The subscriptions of one stream, and the task that sends their events."""

    def __init__(
        self,
        socket: StreamSocket,
        events: Events,
        states: States,
        accounts: Accounts,
        turns: Turns,
        counts: Counts,
    ) -> None:
        self._socket = socket
        self._events = events
        self._states = states
        self._accounts = accounts
        self._turns = turns
        self._listener = events.listener()
        self._badges = Badges(socket, counts, self._listener)
        self.caller: Caller | None = None
        """The newest token of the socket: it determines visible mail and the accounts of `*`."""
        self._unchecked: set[AccountId] = set()
        """Accounts whose positions came from the client: they may belong to a lost log."""
        self.subscriptions: dict[str, Subscription] = {}

    async def add(self, subscription: Subscription) -> None:
        """Serve a subscription from its positions; it replaces a subscription with the same id."""
        await self._resolve_roles(subscription, subscription.positions)
        self.subscriptions[subscription.id] = subscription
        self._unchecked.update(subscription.positions)
        self._listen()
        for account_id in subscription.positions:
            self._listener.poke(account_id)
        self._badges.renew(subscription.positions)

    def remove(self, sub_id: str) -> None:
        self.subscriptions.pop(sub_id, None)
        self._listen()

    def close(self) -> None:
        self.subscriptions.clear()
        self._listen()

    def positions(self) -> dict[AccountId, Position]:
        """Return each account's position that all its subscriptions have reached."""
        positions: dict[AccountId, Position] = {}
        for subscription in self.subscriptions.values():
            for account_id, position in subscription.positions.items():
                positions[account_id] = min(position, positions.get(account_id, position))
        return positions

    def set_caller(self, caller: Caller) -> None:
        """Use this caller's rights for every subscription from now on."""
        self.caller = caller
        self._listener.poke(ACCOUNTS)
        self._badges.renew(self.positions())

    async def run(self) -> None:
        """Send events forever."""
        while True:
            topics = await self._listener.wait()
            try:
                await self._serve(topics)
            except GatewayError as error:
                if not error.is_retryable:
                    raise
                await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter for the retries
                for topic in topics:
                    self._listener.poke(topic)

    async def _serve(self, topics: Set[str]) -> None:
        if ACCOUNTS in topics:
            await self._follow_new_accounts(self._require_caller())
        for account_id in [account_id for account_id in self.positions() if account_id in topics]:
            await self._catch_up(account_id)
        await self._badges.send(topics, self._sight)

    def _sight(self, account_id: AccountId) -> Sight:
        """Return the mailboxes whose counts the subscriptions want and the caller can see."""
        mailbox_ids: set[str] = set()
        for subscription in self.subscriptions.values():
            if subscription.wants_counts and account_id in subscription.positions:
                mailboxes = subscription.mailboxes()
                if mailboxes is None:
                    return seen_by(self._require_caller(), None)
                mailbox_ids |= mailboxes
        return seen_by(self._require_caller(), frozenset(mailbox_ids))

    def _require_caller(self) -> Caller:
        assert self.caller is not None
        return self.caller

    def _listen(self) -> None:
        topics: set[str] = set()
        counted: set[AccountId] = set()
        for subscription in self.subscriptions.values():
            topics.update(subscription.positions)
            if subscription.wants_counts:
                counted.update(subscription.positions)
            if subscription.is_every_account:
                topics.add(ACCOUNTS)
        self._listener.listen_to(topics)
        self._badges.follow(counted)

    async def _follow_new_accounts(self, caller: Caller) -> None:
        for subscription in [item for item in self.subscriptions.values() if item.is_every_account]:
            for account_id in await self._accounts.visible_ids(caller):
                if account_id not in subscription.positions:
                    subscription.positions[account_id] = BEGINNING
                    self._listener.poke(account_id)
        self._listen()

    async def _catch_up(self, account_id: AccountId) -> None:
        """Send the account's unsent events, a slice in each turn of the event loop."""
        while (following := self._following(account_id)) is not None:
            position = min(subscription.positions[account_id] for subscription in following)
            is_checked = account_id not in self._unchecked
            if is_checked and not self._events.is_behind(account_id, position):
                return
            read = self._events.next if is_checked else self._events.after
            try:
                batch = await read(account_id, position)
            except StateExpired as expired:
                await self._report_gap(account_id, position, following, expired.detail)
                continue
            except AccountNotFound:
                self._forget(account_id)
                return
            self._unchecked.discard(account_id)
            if batch.span.last.seq - position.seq > OVERLOAD_EVENTS:
                await self._report_overload(account_id, batch.span.last, following)
                continue
            await self._report_in_slices(account_id, batch.events, following)
            if not batch.events:
                return

    def _following(self, account_id: AccountId) -> list[Subscription] | None:
        """Return the subscriptions that follow an account; None if there are none."""
        following = [item for item in self.subscriptions.values() if account_id in item.positions]
        return following or None

    async def _report_in_slices(
        self, account_id: AccountId, events: Sequence[Event], following: list[Subscription]
    ) -> None:
        for begin in range(0, len(events), SLICE_EVENTS):
            await self._report(account_id, events[begin : begin + SLICE_EVENTS], following)
            if begin + SLICE_EVENTS <= len(events):
                await self._turns.next()

    async def _report(self, account_id: AccountId, events: Sequence[Event], following: list[Subscription]) -> None:
        for event in events:
            if event.type.startswith("mailbox."):
                for subscription in following:
                    await self._resolve_roles(subscription, [account_id])
            caller = self._require_caller()
            frames = await self._event_groups(event, following, caller)
            while caller is not self._require_caller():  # a new token, which may see less, was set meanwhile
                caller = self._require_caller()
                frames = await self._event_groups(event, following, caller)
            for visible, group in frames:
                await self._socket.send_frame(
                    event_frame(self._states, visible, group[0].view, [item.id for item in group])
                )
            for subscription in following:
                if account_id in subscription.positions:
                    subscription.positions[account_id] = max(event.position, subscription.positions[account_id])

    async def _event_groups(
        self, event: Event, following: Iterable[Subscription], caller: Caller
    ) -> list[tuple[Event, list[Subscription]]]:
        """Return the event as the caller sees it, with groups of subscriptions that get the same frame."""
        waiting = [item for item in following if item.positions.get(event.account_id, event.position) < event.position]
        visible = await self._events.seen(event, caller) if waiting else None
        if visible is None:
            return []
        groups: dict[str, list[Subscription]] = {}
        for subscription in waiting:
            if subscription.wants(visible):
                groups.setdefault(subscription.view, []).append(subscription)
        return [(visible, group) for group in groups.values()]

    async def _report_overload(self, account_id: AccountId, last: Position, following: list[Subscription]) -> None:
        """Send the newest state instead of the events up to it."""
        await self._socket.send(StateFrame(states={account_id: self._states.issue(account_id, last)}))
        for subscription in following:
            subscription.positions[account_id] = max(last, subscription.positions[account_id])

    async def _report_gap(
        self, account_id: AccountId, position: Position, following: list[Subscription], reason: str
    ) -> None:
        span = await self._events.span(account_id)
        end = (
            span.last if position.seq >= span.first.seq else span.first
        )  # past the first event: the position belongs to a lost log
        await self._socket.send(
            GapFrame.model_validate(
                {
                    "account_id": account_id,
                    "from": self._states.issue(account_id, position),
                    "to": self._states.issue(account_id, end),
                    "reason": reason,
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
