"""Replaying and following the event log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from app.cluster.bus import DRAIN, Bus, TopicListener, Waiter, listening
from app.errors import AccountNotFound, StateExpired, Unavailable
from app.mail.event_log import Batch, Event, Span
from app.mail.types import AccountId, Mailbox, Position
from app.mailstore.log import EventLog
from app.mailstore.reader import MailReader
from app.services.access.callers import Caller
from app.services.access.visibility import SubmissionReader, as_seen, seen_mailboxes
from app.services.access.watch import Guard
from app.services.following.counts import counts_topic
from app.services.following.feed import Feed

BATCH_EVENTS = 200
"""Events read at once: bounds the memory of a subscriber."""
RETRY_SECONDS = 2.0
"""How long a follower waits before it reads again after the database did not answer."""
_RESTORED = "The database was restored from a backup: call /changes"


class GuardedSession(Protocol):
    """A session that is open as long as its caller has access."""

    def check(self) -> None:
        """Raises TokenExpired or TokenRevoked if the session has to end."""
        ...


S = TypeVar("S", bound=GuardedSession)
Guarded = Callable[[Waiter], AbstractContextManager[Guard]]
"""Makes the guard of a session that waits with this waiter."""


class Events:
    """Reads the log for subscribers."""

    def __init__(
        self,
        log: EventLog,
        reader: MailReader,
        bus: Bus,
        submissions: SubmissionReader,
        draining: asyncio.Event | None = None,
        restored_at_ms: int = 0,
    ) -> None:
        """`restored_at_ms`: when the database was last restored; positions from before it have expired."""
        self._restored_at_ms = restored_at_ms
        self._log = log
        self._reader = reader
        self._submissions = submissions
        self._bus = bus
        self._draining = draining or asyncio.Event()
        self._feed = Feed(log, bus)

    def listener(self) -> TopicListener:
        """Return the listener that a follower waits with; it listens to accounts by their ids."""
        return TopicListener(self._bus)

    async def position(self, account_id: AccountId) -> Position:
        """Return the position of the last event. Raises AccountNotFound."""
        return (await self.span(account_id)).last

    async def earliest(self, account_id: AccountId) -> Position:
        """Return the position before the oldest stored event. Raises AccountNotFound."""
        return (await self.span(account_id)).first

    async def span(self, account_id: AccountId) -> Span:
        """Return the stored part of the log. Raises AccountNotFound."""
        span = await self._log.span(account_id)
        if span is None:
            raise AccountNotFound
        return span

    async def place(self, account_id: AccountId, seq: int) -> Position:
        """Return the position of an event by its number."""
        return Position(seq, await self._log.at_ms(account_id, seq) or 0)

    def is_behind(self, account_id: AccountId, position: Position) -> bool:
        """Whether there may be events after a position. For accounts that have a listener."""
        return self._feed.is_behind(account_id, position)

    async def after(self, account_id: AccountId, position: Position, limit: int = BATCH_EVENTS) -> Batch:
        """Return up to `limit` events after a position, in order.

        Raises AccountNotFound; StateExpired if some of them are no longer stored, or if the position is of a log that
        was lost when the database was restored from a backup.
        """
        try:
            return await self._feed.after(account_id, position, limit)
        except StateExpired:
            if position.at_ms < self._restored_at_ms:
                raise StateExpired(_RESTORED) from None
            raise

    async def next(self, account_id: AccountId, position: Position) -> Batch:
        """Like `after`, for a follower, who is woken for later events: read once for all followers."""
        return await self._feed.next(account_id, position, BATCH_EVENTS)

    async def wait(
        self, account_id: AccountId, position: Position, limit: int, wait_seconds: float, guarded: Guarded
    ) -> list[Event]:
        """Like `after`, but wait up to `wait_seconds` for the first event, or until the process begins to stop.

        Raises TokenExpired, TokenRevoked.
        """
        events = (await self.after(account_id, position, limit)).events
        if events or wait_seconds <= 0:
            return events
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_seconds
        with listening(self._bus, account_id, DRAIN) as waiter, guarded(waiter) as guard:
            while not events and not self._draining.is_set() and (remaining := until - loop.time()) > 0:
                if self.is_behind(account_id, position):
                    events = (await self.after(account_id, position, limit)).events
                if not events:
                    await waiter.wait(remaining)
                guard.check()
            return events

    async def follow(
        self,
        account_id: AccountId,
        position: Position,
        idle_seconds: float,
        opened: Callable[[Waiter], AbstractContextManager[S]],
    ) -> AsyncGenerator[tuple[S, list[Event]]]:
        """Yield batches of events after a position, until the process stops.

        An empty batch comes after `idle_seconds` without events, and when the waiter is poked for counts. While the
        database is unavailable, it retries every `RETRY_SECONDS` at most. Raises TokenExpired or TokenRevoked at the
        end of the session. The session of each batch says whether its events may still be sent.
        """
        with listening(self._bus, account_id, DRAIN) as waiter, opened(waiter) as session:
            while not self._draining.is_set():
                session.check()
                wait_seconds = idle_seconds
                try:
                    events = await self._news(account_id, position)
                except Unavailable:
                    events, wait_seconds = [], min(idle_seconds, RETRY_SECONDS)
                if events:
                    position = events[-1].position
                    yield session, events
                elif (topics := await waiter.wait(wait_seconds)) == set() or counts_topic(account_id) in topics:
                    yield session, []

    async def _news(self, account_id: AccountId, position: Position) -> list[Event]:
        if not self.is_behind(account_id, position):
            return []
        return (await self.next(account_id, position)).events

    async def seen(self, event: Event, caller: Caller) -> Event | None:
        """Return the event as a caller may see it; None if it may not see it at all."""
        return await as_seen(self._reader, self._submissions, event, caller)

    async def mailboxes(self, account_id: AccountId, caller: Caller, ids: Collection[str]) -> list[Mailbox]:
        """Return those of the mailboxes that exist and that the caller sees."""
        visible = seen_mailboxes(await self._reader.mailboxes.mailboxes(account_id), caller.mailbox_ids)
        return [mailbox for mailbox in visible if mailbox.id in ids]

    async def mailboxes_with(self, account_id: AccountId, roles: Collection[str]) -> set[str]:
        """Return the ids of the mailboxes that have one of these roles."""
        return {mailbox.id for mailbox in await self._reader.mailboxes.mailboxes(account_id) if mailbox.role in roles}
