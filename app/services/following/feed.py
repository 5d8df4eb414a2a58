"""The newest events of an account, read once for all its followers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from app.cluster.bus import Bus
from app.errors import AccountNotFound, StateExpired
from app.mail.event_log import Batch, Event, Span
from app.mail.types import AccountId, Position
from app.mailstore.log import EventLog

TAIL_EVENTS = 64
TAIL_BYTES = 128 * 1024
"""The most events of one account, and bytes of their bodies, that stay in memory for further followers."""
TAILS = 128
"""The most accounts with events in memory."""
_OTHER_LOG = "This position belongs to a log that was lost"

Key = tuple[AccountId, Position, int]


@dataclass(slots=True)
class _Tail:
    """The last events of a log: those after `base`, without gaps."""

    base: Position
    events: list[Event]
    span: Span

    def after(self, position: Position, limit: int) -> Batch | None:
        """None if the position is not in the tail, or no event in it comes after."""
        index = position.seq - self.base.seq
        if not 0 <= index < len(self.events):
            return None
        if position != (self.events[index - 1].position if index else self.base):
            return None
        return Batch(self.span, self.events[index : index + limit])


class Feed:
    """Reads the log in one statement per batch, and caches what several followers will read."""

    def __init__(self, log: EventLog, bus: Bus) -> None:
        self._log = log
        self._bus = bus
        self._tails: OrderedDict[AccountId, _Tail] = OrderedDict()
        self._reads: dict[Key, asyncio.Task[Batch]] = {}

    def is_behind(self, account_id: AccountId, position: Position) -> bool:
        """Whether there may be events after a position. No read is needed, because the bus has the last number."""
        last = self._bus.last(account_id)
        return last is None or position.seq < last

    async def after(self, account_id: AccountId, position: Position, limit: int) -> Batch:
        """Return up to `limit` events after a position from the log. Raises AccountNotFound, StateExpired."""
        return await self._read(account_id, position, limit)

    async def next(self, account_id: AccountId, position: Position, limit: int) -> Batch:
        """Like `after`, for a follower, up to the last event that the bus announced; from memory if possible."""
        tail, last = self._tails.get(account_id), self._bus.last(account_id)
        if tail is not None and last is not None and tail.span.last.seq >= last:
            batch = tail.after(position, limit)
            if batch is not None:
                return batch
        return await self._read_together((account_id, position, limit))

    async def _read_together(self, key: Key) -> Batch:
        """Run one statement for all callers that read the same at the same time."""
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = asyncio.ensure_future(self._read(*key))
            read.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(read)

    def _end(self, key: Key, read: asyncio.Task[Batch]) -> None:
        del self._reads[key]
        if not read.cancelled():
            read.exception()  # the caller may have gone

    async def _read(self, account_id: AccountId, position: Position, limit: int) -> Batch:
        stored = await self._log.starting_at(account_id, position.seq, limit + 1)
        if stored is None:
            self._tails.pop(account_id, None)
            raise AccountNotFound
        batch = Batch(stored.span, _events_after(position, stored, limit))
        self._bus.note(account_id, stored.span.last.seq)
        if batch.events and batch.is_last:
            self._keep(account_id, position, batch)
        return batch

    def _keep(self, account_id: AccountId, position: Position, batch: Batch) -> None:
        """Add a batch that reaches the end of the log to the account's tail."""
        tail = self._tails.pop(account_id, None)
        if tail is None or not tail.events or tail.events[-1].position != position:
            tail = _Tail(position, [], batch.span)
        tail.events = [*tail.events, *batch.events]
        tail.span = batch.span
        excess = _excess(tail.events)
        if excess:
            tail.base = tail.events[excess - 1].position
            tail.events = tail.events[excess:]
        self._tails[account_id] = tail
        if len(self._tails) > TAILS:
            self._tails.popitem(last=False)


def _excess(events: list[Event]) -> int:
    """Return how many of the oldest events exceed the limits."""
    size = 0
    for number, event in enumerate(reversed(events)):
        size += len(event.body)
        if number == TAIL_EVENTS or size > TAIL_BYTES:
            return len(events) - number
    return 0


def _events_after(position: Position, batch: Batch, limit: int) -> list[Event]:
    """Return the events after a position from a batch that was read from it on.

    Raises StateExpired if some of them are no longer stored, or if the position is of a log that was lost when the
    database was restored from a backup.
    """
    events, first = batch.events, batch.span.first
    if not first.seq <= position.seq <= batch.span.last.seq:
        raise StateExpired("The events after this position are no longer stored: call /changes")
    if events and events[0].seq == position.seq:
        if events[0].position != position:
            raise StateExpired(_OTHER_LOG)
        events = events[1:]
    elif position.seq != first.seq or position.at_ms > first.at_ms:
        raise StateExpired(_OTHER_LOG)
    if events and events[0].seq != position.seq + 1:
        raise StateExpired("The events after this position are no longer stored: call /changes")
    return events[:limit]
