"""What happened: replay and following of the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from app.cluster.bus import Bus, listening
from app.errors import AccountNotFound, StateExpired
from app.mail.types import AccountId, Mailbox, Position
from app.mailstore.index import Index
from app.mailstore.log import Event, EventLog, Span
from app.services.visibility import as_seen

BATCH_EVENTS = 200
"""Events read at once: what bounds the memory that a subscriber costs."""
_OTHER_LOG = "This position is of a log that was lost"


class Events:
    """Reads the log on behalf of subscribers."""

    def __init__(self, log: EventLog, index: Index, bus: Bus) -> None:
        self._log = log
        self._index = index
        self.bus = bus

    async def position(self, account_id: AccountId) -> Position:
        """The position of the last event; AccountNotFound."""
        return (await self.span(account_id)).last

    async def earliest(self, account_id: AccountId) -> Position:
        """The position before the oldest event that is kept; AccountNotFound."""
        return (await self.span(account_id)).first

    async def span(self, account_id: AccountId) -> Span:
        """What is kept of the log; AccountNotFound."""
        found = await self._log.span(account_id)
        if found is None:
            raise AccountNotFound
        return found

    async def place(self, account_id: AccountId, seq: int) -> Position:
        """The position of an event by its number alone."""
        return Position(seq, await self._log.at_ms(account_id, seq) or 0)

    async def after(self, account_id: AccountId, position: Position, limit: int = BATCH_EVENTS) -> list[Event]:
        """Up to `limit` events after a position, in order.

        StateExpired when some of them are not kept any more, or the position is of another log: one that was lost
        when the database was restored from a backup.
        """
        span = await self.span(account_id)
        if not span.first.seq <= position.seq <= span.last.seq:
            raise StateExpired("Events of this position are not kept any more: ask /changes")
        if position.seq == span.first.seq:
            if position.at_ms > span.first.at_ms:
                raise StateExpired(_OTHER_LOG)
            return await self._log.after(account_id, position.seq, limit)
        events = await self._log.after(account_id, position.seq - 1, limit + 1)
        if not events or events[0].position != position:
            raise StateExpired(_OTHER_LOG)
        return events[1:]

    async def wait(self, account_id: AccountId, position: Position, limit: int, wait_seconds: float) -> list[Event]:
        """The same, but waits for the first event for up to `wait_seconds`."""
        with listening(self.bus, account_id) as waiter:
            events = await self.after(account_id, position, limit)
            if events or wait_seconds <= 0:
                return events
            await waiter.wait(wait_seconds)
            return await self.after(account_id, position, limit)

    async def follow(
        self, account_id: AccountId, position: Position, idle_seconds: float
    ) -> AsyncIterator[list[Event]]:
        """Batches of events after a position, for ever; an empty one after each `idle_seconds` without any."""
        with listening(self.bus, account_id) as waiter:
            while True:
                events = await self.after(account_id, position)
                if events:
                    position = events[-1].position
                    yield events
                elif not await waiter.wait(idle_seconds):
                    yield []

    async def seen(self, event: Event, visible: Collection[str] | None) -> Event | None:
        """The event as told to one who sees only the mailboxes `visible`; None where it is not for them."""
        return await as_seen(self._index, event, visible)

    async def mailboxes(self, account_id: AccountId, ids: Collection[str]) -> list[Mailbox]:
        """Those of the mailboxes that are still there."""
        return [mailbox for mailbox in await self._index.mailboxes(account_id) if mailbox.id in ids]

    async def mailboxes_with(self, account_id: AccountId, roles: Collection[str]) -> set[str]:
        """Ids of the mailboxes that have one of these roles."""
        return {mailbox.id for mailbox in await self._index.mailboxes(account_id) if mailbox.role in roles}
