"""The difference between a known state of the mail and now, computed from rows, without the event log."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from app.errors import StateExpired
from app.mail.event_log import Span
from app.mail.types import AccountId, Position
from app.mailstore.differences import ChangedMessage, DifferencePage, Differences, MailboxNumbers, Tombstone
from app.mailstore.log import EventLog
from app.services.following.events import Events
from app.services.following.states import StatePosition

CHANGES_LIMIT = 2_000
"""The most messages in one answer, and the most tombstones."""
EVERY_MAILBOX = "*"
BEGINNING = Position(0, 0)


@dataclass(slots=True)
class ObjectChange:
    """What changed in a message that the caller knew, and its keywords now."""

    changed: list[str]
    keywords: list[str]


@dataclass(slots=True)
class Changes:
    """The changes that bring a client from one position of the mail to another.

    `created` maps message id → summary; `moved` id → (from, to); `removed` id → reason, which may name messages that
    the client never had. Applying them twice is safe. `position` is the client's new position; `base_seq` is set if
    there are more changes (see `states.StatePosition`).
    """

    created: dict[str, bytes] = field(default_factory=dict)
    updated: dict[str, ObjectChange] = field(default_factory=dict)
    moved: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    mailboxes_created: list[str] = field(default_factory=list)
    mailboxes_updated: list[str] = field(default_factory=list)
    mailboxes_removed: list[str] = field(default_factory=list)
    position: Position = BEGINNING
    base_seq: int | None = None


class ChangesSince:
    """Computes differences."""

    def __init__(self, differences: Differences, log: EventLog, events: Events) -> None:
        self._differences = differences
        self._log = log
        self._events = events

    async def read(
        self,
        account_id: AccountId,
        since: StatePosition,
        visible: Collection[str] | None = None,
        excepted: Collection[str] = (),
        limit: int = CHANGES_LIMIT,
    ) -> Changes:
        """Return what changed since a position, up to about `limit` messages. Raises AccountNotFound.

        `visible` limits it to some mailboxes: a message that left them is removed, one that came into them is
        created. The same applies to the mailboxes `excepted`, which the caller reads again; `*` means all. Raises
        StateExpired with the mailboxes that cannot be answered and are not excepted: their UIDVALIDITY changed, their
        tombstones are deleted, or the position is of a log that was lost when the database was restored from a
        backup.
        """
        span = await self._events.span(account_id)
        is_lost = not await self._is_of(span, account_id, since.position)
        mailboxes = [
            mailbox
            for mailbox in await self._differences.mailboxes(account_id)
            if visible is None or mailbox.id in visible
        ]
        unread = {mailbox.id for mailbox in mailboxes if EVERY_MAILBOX in excepted or mailbox.id in excepted}
        unanswerable = [
            mailbox.id
            for mailbox in mailboxes
            if is_lost or since.position.seq < max(mailbox.reset_seq, mailbox.forgotten_seq)
        ]
        if not unread.issuperset(unanswerable):
            raise StateExpired("List the messages of these mailboxes again", unanswerable)
        if is_lost:
            return Changes(mailboxes_updated=[mailbox.id for mailbox in mailboxes], position=span.last)
        page = await self._differences.page(account_id, since.position.seq, limit)
        difference = _Difference(since, visible, {*excepted} | unread)
        await self._fill(account_id, difference, page)
        difference.add_mailboxes(mailboxes, unread)
        changes = difference.changes
        changes.position = span.last
        if page.to_seq is not None and page.to_seq <= span.last.seq:
            at_ms = await self._log.at_ms(account_id, page.to_seq)
            changes.position = Position(page.to_seq, since.position.at_ms if at_ms is None else at_ms)
            changes.base_seq = since.base_seq
        return changes

    async def _fill(self, account_id: AccountId, difference: _Difference, page: DifferencePage) -> None:
        difference.add_tombstones(page.tombstones)
        missing = difference.left.keys() - {message.id for message in page.messages}
        others = await self._differences.messages(account_id, missing)
        difference.add_messages(page.messages)
        difference.add_messages(others)
        difference.add_gone(missing - {message.id for message in others})

    async def _is_of(self, span: Span, account_id: AccountId, position: Position) -> bool:
        """Whether a position belongs to this log: its event has the same time, if the event is still stored."""
        if position.seq > span.last.seq:
            return False
        if position.seq <= span.first.seq:
            return position.at_ms <= span.first.at_ms
        return await self._log.at_ms(account_id, position.seq) in (position.at_ms, None)


class _Difference:
    """Classifies changes by what the caller knew and may see."""

    def __init__(self, since: StatePosition, visible: Collection[str] | None, excepted: Collection[str]) -> None:
        self._since = since
        self._visible = visible
        self._excepted = excepted
        self.changes = Changes()
        self.left: dict[str, tuple[str, ...]] = {}
        """Message id → the mailboxes that it was in at the position, if it has left one since."""

    def add_tombstones(self, tombstones: Iterable[Tombstone]) -> None:
        for tombstone in tombstones:
            if tombstone.mailbox_ids is None:
                if self._visible is None or tombstone.subject in self._visible:
                    self.changes.mailboxes_removed.append(tombstone.subject)
                continue
            before = self.left.setdefault(tombstone.subject, tombstone.mailbox_ids)
            if tombstone.reason != "moved" and self._visible_among(before):
                self.changes.removed[tombstone.subject] = tombstone.reason

    def add_messages(self, messages: Iterable[ChangedMessage]) -> None:
        for message in messages:
            after = self._visible_among(message.mailbox_ids)
            before = self._before(message)
            if after:
                self.changes.removed.pop(message.id, None)  # it was removed and is back since
            if after and not before:
                self.changes.created[message.id] = message.summary
                self.changes.removed.pop(message.id, None)  # it is back
            elif after:
                self._differ(message, before, after)
            elif before or (message.id in self.left and self._visible_among(self.left[message.id])):
                self.changes.removed[message.id] = "moved"

    def add_gone(self, ids: Iterable[str]) -> None:
        """Messages that were moved and then deleted with their new mailbox."""
        for id_ in ids:
            if self._visible_among(self.left[id_]):
                self.changes.removed.setdefault(id_, "expunged")

    def add_mailboxes(self, mailboxes: Iterable[MailboxNumbers], unread: Collection[str]) -> None:
        for mailbox in mailboxes:
            if mailbox.created_seq > self._since.position.seq:
                self.changes.mailboxes_created.append(mailbox.id)
            elif mailbox.changed_seq > self._since.position.seq or mailbox.id in unread:
                self.changes.mailboxes_updated.append(mailbox.id)

    def _before(self, message: ChangedMessage) -> list[str]:
        """Return where the caller saw it; nothing if it came later or from a hidden mailbox."""
        if message.created_seq > self._since.base_seq:
            return []
        if message.id in self.left:
            return self._visible_among(self.left[message.id])
        is_known = message.moved_seq <= self._since.position.seq  # else its tombstone is deleted (excepted mailbox)
        return self._visible_among(message.mailbox_ids) if is_known else []

    def _differ(self, message: ChangedMessage, before: list[str], after: list[str]) -> None:
        if before != after:
            self.changes.moved[message.id] = (before, after)
        numbers = {"keywords": message.flags_seq, "other": message.other_seq}
        changed = [name for name, seq in numbers.items() if seq > self._since.base_seq]
        if changed:
            self.changes.updated[message.id] = ObjectChange(changed, message.keywords)

    def _visible_among(self, mailbox_ids: Iterable[str]) -> list[str]:
        return sorted(
            id_ for id_ in mailbox_ids if (self._visible is None or id_ in self._visible) and id_ not in self._excepted
        )
