"""What happened: replay and following of the log, and the difference that it makes to what a caller knew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.cluster.bus import Bus, listening
from app.errors import AccountNotFound, StateExpired
from app.mail.types import AccountId, Mailbox
from app.mailstore.index import Index
from app.mailstore.log import Event, EventLog
from app.services.visibility import as_seen

BATCH_EVENTS = 200
"""Events read at once: what bounds the memory that a subscriber costs."""
CHANGES_LIMIT = 2_000
"""Events folded into one answer of `/changes`."""


@dataclass(slots=True)
class Changes:
    """What a caller who knew the mail at one position must do to know it at another.

    `updated` maps message id → new keywords; `moved` id → (from, to); `removed` id → reason. Nothing is in two of
    `created`, `moved`-with-`removed` or `updated`-with-`removed`. `seq` is the position that the caller knows then.
    """

    created: dict[str, None] = field(default_factory=dict)
    updated: dict[str, list[str]] = field(default_factory=dict)
    moved: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    mailboxes_created: dict[str, None] = field(default_factory=dict)
    mailboxes_updated: dict[str, None] = field(default_factory=dict)
    mailboxes_removed: dict[str, None] = field(default_factory=dict)
    seq: int = 0
    has_more: bool = False


class Events:
    """Reads the log on behalf of subscribers."""

    def __init__(self, log: EventLog, index: Index, bus: Bus) -> None:
        self._log = log
        self._index = index
        self.bus = bus

    async def position(self, account_id: AccountId) -> int:
        """The number of the last event; AccountNotFound."""
        return (await self._positions(account_id))[1]

    async def earliest(self, account_id: AccountId) -> int:
        """The position before the oldest event that is kept; AccountNotFound."""
        return (await self._positions(account_id))[0]

    async def _positions(self, account_id: AccountId) -> tuple[int, int]:
        found = await self._log.position(account_id)
        if found is None:
            raise AccountNotFound
        return found

    async def after(self, account_id: AccountId, seq: int, limit: int = BATCH_EVENTS) -> list[Event]:
        """Up to `limit` events after a position, in order. StateExpired when some of them are not kept any more."""
        first, last = await self._positions(account_id)
        if seq < first or seq > last:
            raise StateExpired("Events of this position are not kept any more")
        return await self._log.after(account_id, seq, limit)

    async def wait(self, account_id: AccountId, seq: int, limit: int, wait_seconds: float) -> list[Event]:
        """The same, but waits for the first event for up to `wait_seconds`."""
        with listening(self.bus, account_id) as waiter:
            events = await self.after(account_id, seq, limit)
            if events or wait_seconds <= 0:
                return events
            await waiter.wait(wait_seconds)
            return await self.after(account_id, seq, limit)

    async def follow(self, account_id: AccountId, seq: int, idle_seconds: float) -> AsyncIterator[list[Event]]:
        """Batches of events after a position, for ever; an empty one after each `idle_seconds` without any."""
        with listening(self.bus, account_id) as waiter:
            while True:
                events = await self.after(account_id, seq)
                if events:
                    seq = events[-1].seq
                    yield events
                elif not await waiter.wait(idle_seconds):
                    yield []

    async def seen(self, event: Event, visible: Collection[str] | None) -> Event | None:
        """The event as told to one who sees only the mailboxes `visible`; None where it is not for them."""
        return await as_seen(self._index, event, visible)

    async def changes(self, account_id: AccountId, seq: int, visible: Collection[str] | None = None) -> Changes:
        """Fold what happened after a position into one difference.

        `visible` limits it to some mailboxes: a message that goes to another is removed, one that comes is created.
        StateExpired names the mailboxes whose UIDVALIDITY changed meanwhile, or none when the log was trimmed.
        """
        events = await self.after(account_id, seq, CHANGES_LIMIT)
        changes = Changes(seq=events[-1].seq if events else seq)
        changes.has_more = len(events) == CHANGES_LIMIT
        reset = [event.subject for event in events if event.type == "mailbox.reset"]
        if reset:
            raise StateExpired("The UIDVALIDITY of a mailbox changed", list(dict.fromkeys(reset)))
        for event in events:
            seen = await self.seen(event, visible)
            if seen is not None:
                _FOLDS.get(seen.type, _ignore)(changes, seen)
                _count(changes, seen)
        return changes

    async def summaries(self, account_id: AccountId, ids: Sequence[str]) -> list[bytes]:
        """The prepared summaries of messages that are still there, in the order asked for."""
        return [message.summary for message in await self._index.find(account_id, ids)]

    async def mailboxes(self, account_id: AccountId, ids: Collection[str]) -> list[Mailbox]:
        """Those of the mailboxes that are still there."""
        return [mailbox for mailbox in await self._index.mailboxes(account_id) if mailbox.id in ids]

    async def mailboxes_with(self, account_id: AccountId, roles: Collection[str]) -> set[str]:
        """Ids of the mailboxes that have one of these roles."""
        return {mailbox.id for mailbox in await self._index.mailboxes(account_id) if mailbox.role in roles}


def _data(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(event.body)["data"]
    return data


def _created(changes: Changes, event: Event) -> None:
    changes.created[event.subject] = None
    changes.removed.pop(event.subject, None)


def _updated(changes: Changes, event: Event) -> None:
    if event.subject not in changes.created:
        changes.updated[event.subject] = _data(event)["keywords"]


def _moved(changes: Changes, event: Event) -> None:
    if event.subject in changes.created:
        return
    data = _data(event)
    source, target = data["from"], data["to"]
    if event.subject in changes.moved:
        source = changes.moved.pop(event.subject)[0]
    if source != target:
        changes.moved[event.subject] = (source, target)


def _deleted(changes: Changes, event: Event) -> None:
    changes.updated.pop(event.subject, None)
    changes.moved.pop(event.subject, None)
    if event.subject in changes.created:
        del changes.created[event.subject]
    else:
        changes.removed[event.subject] = _data(event)["reason"]


def _mailbox_created(changes: Changes, event: Event) -> None:
    changes.mailboxes_created[event.subject] = None


def _mailbox_updated(changes: Changes, event: Event) -> None:
    if event.subject not in changes.mailboxes_created:
        changes.mailboxes_updated[event.subject] = None


def _mailbox_deleted(changes: Changes, event: Event) -> None:
    changes.mailboxes_updated.pop(event.subject, None)
    if event.subject in changes.mailboxes_created:
        del changes.mailboxes_created[event.subject]
    else:
        changes.mailboxes_removed[event.subject] = None


def _count(changes: Changes, event: Event) -> None:
    """A mailbox whose messages changed has other numbers now."""
    for mailbox_id in (event.mailbox_id, event.target_mailbox_id):
        if event.type.startswith("message.") and mailbox_id is not None and mailbox_id not in changes.mailboxes_created:
            changes.mailboxes_updated[mailbox_id] = None


def _ignore(_: Changes, __: Event) -> None:
    """Events about the account are no change of mail."""


_FOLDS = {
    "message.created": _created,
    "message.updated": _updated,
    "message.moved": _moved,
    "message.deleted": _deleted,
    "mailbox.created": _mailbox_created,
    "mailbox.updated": _mailbox_updated,
    "mailbox.deleted": _mailbox_deleted,
}
