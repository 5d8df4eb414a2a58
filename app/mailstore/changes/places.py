"""Messages in several mailboxes at once, as on Gmail: their placements, and the events when these change.

A message's row holds its first place, table `placement` the others. The first place is the mailbox that a user would
move it from: INBOX before a user's label, and these before mailboxes that collect mail by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BindParameter, bindparam, delete, insert, select, update

from app.db.session import Statement, is_one_of, json_list, value_of
from app.db.tables import ACCOUNT, MESSAGE, PLACEMENT
from app.mail.delta import Location
from app.mail.events import MessageMoved
from app.mail.summaries import patched, thread_id_in
from app.mail.types import MailboxId, MessageId, Role
from app.mailstore.changes.context import ChangeContext, MailboxState
from app.mailstore.placed import ITS_MESSAGE
from app.mailstore.rows import flags_of

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_OURS = PLACEMENT.c.account_id == _ACCOUNT
_HAS_ANY: Statement = select(ACCOUNT.c.has_placements).where(ACCOUNT.c.id == _ACCOUNT)
_SET_HAS_ANY: Statement = update(ACCOUNT).where(ACCOUNT.c.id == _ACCOUNT).values(has_placements=True)
_THE_MESSAGE: Statement = select(
    MESSAGE.c.mailbox_id, MESSAGE.c.uid, MESSAGE.c.modseq, MESSAGE.c.version, MESSAGE.c.flags,
    MESSAGE.c.received_at_ms, MESSAGE.c.summary, MESSAGE.c.further,
).where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("id"))  # fmt: skip
_FURTHER: Statement = select(PLACEMENT.c.mailbox_id, PLACEMENT.c.uid, PLACEMENT.c.modseq).where(
    _OURS, PLACEMENT.c.message_id == bindparam("id")
)
_IDS_BY_ORIGIN: Statement = select(MESSAGE.c.origin_id, MESSAGE.c.id).where(
    MESSAGE.c.account_id == _ACCOUNT,
    MESSAGE.c.origin_id.is_not(None),
    is_one_of(MESSAGE.c.origin_id, bindparam("origin_ids")),
)
_AT: Statement = (
    select(
        MESSAGE.c.id, PLACEMENT.c.uid, MESSAGE.c.flags, PLACEMENT.c.modseq, MESSAGE.c.version, MESSAGE.c.summary,
        MESSAGE.c.further,
    )
    .join_from(PLACEMENT, MESSAGE, ITS_MESSAGE)
    .where(_OURS, PLACEMENT.c.mailbox_id == bindparam("mailbox_id"), is_one_of(PLACEMENT.c.uid, bindparam("uids")))
)  # fmt: skip
_ELSEWHERE_TOO: tuple[Statement, ...] = (
    select(PLACEMENT.c.message_id).where(_OURS, PLACEMENT.c.mailbox_id == bindparam("mailbox_id")),
    select(MESSAGE.c.id).where(
        MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id"), MESSAGE.c.further > 0
    ),
)
_SET_PLACES: Statement = (
    update(MESSAGE)
    .where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("key"))
    .values({name: bindparam(name) for name in ("mailbox_id", "uid", "modseq", "version", "summary", "further")})
    .values({name: bindparam("changed_seq") for name in ("moved_seq", "changed_seq")})
)
_SET_MODSEQ: tuple[Statement, ...] = tuple(
    update(table)
    .where(
        table.c.account_id == _ACCOUNT,
        key == bindparam("key"),
        table.c.mailbox_id == bindparam("in_mailbox"),
        table.c.uid == bindparam("at_uid"),
    )
    .values(modseq=bindparam("modseq"))
    for table, key in ((MESSAGE, MESSAGE.c.id), (PLACEMENT, PLACEMENT.c.message_id))
)
_ADD: Statement = insert(PLACEMENT)
_DROP: Statement = delete(PLACEMENT).where(_OURS, PLACEMENT.c.message_id == bindparam("id"))


class PlacementState(NamedTuple):
    """The data of a message at one of its places that a change needs; `modseq` is the one known there."""

    id: MessageId
    uid: int
    flags: str
    modseq: int
    version: int
    summary: bytes
    further: int


_RANKS: dict[str | None, int] = {Role.INBOX: 0, None: 1, Role.ALL: 3, Role.FLAGGED: 4}
_EXCLUSIVE = (Role.TRASH, Role.JUNK)
"""A message in one of these is in no other mailbox."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A message with its places, the first one first, each with the MODSEQ known there."""

    id: MessageId
    version: int
    flags: str
    received_at_ms: int
    summary: bytes
    places: dict[Location, int]


class Places:
    """Applies facts about the places of messages."""

    def __init__(self, ledger: ChangeContext) -> None:
        self._ledger = ledger
        self._has_any: bool | None = None

    async def briefs_at(self, mailbox_id: MailboxId, uids: Sequence[int]) -> dict[int, PlacementState]:
        """Return the messages with a further placement in this mailbox, by UID."""
        if not uids or not await self._are_any():
            return {}
        values = json_list(list(uids))
        rows = await self._ledger.rows(_AT, mailbox_id=mailbox_id, uids=values)
        return {brief.uid: brief for brief in map(PlacementState._make, rows)}

    async def ids_of(self, origin_ids: Iterable[str]) -> dict[str, MessageId]:
        """Return the messages with these origin ids."""
        values = json_list(list(origin_ids))
        rows = await self._ledger.rows(_IDS_BY_ORIGIN, origin_ids=values)
        return {origin_id: MessageId(id_) for origin_id, id_ in rows}

    async def add(self, id_: MessageId, at: Location, modseq: int = 0, *, is_announced: bool = True) -> None:
        """Add a place. Trash and Junk replace all other places."""
        message = await self._read(id_)
        mailbox = await self._ledger.mailbox(at.mailbox_id)
        if message is None or mailbox is None or at in message.places:
            return
        others = {} if mailbox.role in _EXCLUSIVE else message.places
        await self._write(message, {**others, at: modseq}, is_announced=is_announced)
        self._ledger.applied.message_ids[at] = id_

    async def move(self, id_: MessageId, source: Location, target: Location, modseq: int) -> None:
        """Replace one place by another, which it may have already."""
        message = await self._read(id_)
        mailbox = await self._ledger.mailbox(target.mailbox_id)
        if message is None or mailbox is None:
            return
        others = {} if mailbox.role in _EXCLUSIVE else message.places
        after = {place: known for place, known in others.items() if place != source}
        await self._write(message, {**after, target: modseq or message.places.get(target, 0)}, changed=(source, target))
        self._ledger.applied.message_ids[target] = id_
        self._ledger.applied.copies[source] = target

    async def leave(self, id_: MessageId, at: Location) -> bool:
        """Remove a place. Returns False and does nothing if it is the only one."""
        message = await self._read(id_)
        if message is None or message.places.keys() <= {at}:
            return False
        after = {place: known for place, known in message.places.items() if place != at}
        await self._write(message, after, changed=(at, next(iter(after))))
        return True

    async def leave_all(self, mailbox: MailboxState, *, is_announced: bool) -> None:
        """Remove this mailbox from the places of all messages. Messages that are also elsewhere stay there."""
        if not await self._are_any():
            return
        ids: dict[MessageId, None] = {}
        for statement in _ELSEWHERE_TOO:
            rows = await self._ledger.rows(statement, mailbox_id=mailbox.id)
            ids |= dict.fromkeys(MessageId(id_) for (id_,) in rows)
        for id_ in ids:
            message = await self._read(id_)
            assert message is not None
            after = {place: known for place, known in message.places.items() if place.mailbox_id != mailbox.id}
            if after:
                await self._write(message, after, is_announced=is_announced)
            else:
                await self._ledger.execute(_DROP, id=id_)

    async def recount(self, id_: MessageId, unread: int) -> list[MailboxId]:
        """Add `unread` to the unread counts of the mailboxes that a message is in. Return those mailboxes."""
        message = await self._read(id_)
        assert message is not None
        for place in message.places:
            mailbox = await self._ledger.mailbox(place.mailbox_id)
            if mailbox is not None:
                mailbox.unread += unread
                self._ledger.touched(mailbox)
        return _mailbox_ids(message.places)

    async def note_modseq(self, id_: MessageId, at: Location, modseq: int) -> None:
        """Set the MODSEQ of a message at one of its places."""
        values = {"account_id": self._ledger.account_id, "in_mailbox": at.mailbox_id, "at_uid": at.uid}
        for statement in _SET_MODSEQ:
            await self._ledger.tx.execute(statement, key=id_, modseq=modseq, **values)

    # ---- reading and writing the places of a message

    async def _are_any(self) -> bool:
        if self._has_any is None:
            self._has_any = bool(value_of(await self._ledger.row(_HAS_ANY)))
        return self._has_any

    async def _read(self, id_: MessageId) -> _Message | None:
        row = await self._ledger.row(_THE_MESSAGE, id=id_)
        if row is None:
            return None
        mailbox_id, uid, modseq, version, flags, received_at_ms, summary, further = row
        places = {Location(MailboxId(mailbox_id), uid): modseq}
        if further:
            rows = await self._ledger.rows(_FURTHER, id=id_)
            places |= {Location(MailboxId(mailbox_id), uid): modseq for mailbox_id, uid, modseq in rows}
        return _Message(id_, version, flags, received_at_ms, summary, places)

    async def _write(
        self,
        message: _Message,
        after: dict[Location, int],
        *,
        changed: tuple[Location, Location] | None = None,
        is_announced: bool = True,
    ) -> None:
        """Set the places of a message: rows, counts and the event. `changed`: the place it left, and the new one."""
        first, *others = await self._ranked(after)
        before_ids, after_ids = _mailbox_ids(message.places), _mailbox_ids(after)
        version = message.version
        if is_announced and before_ids != after_ids:
            source, entered = changed or (next(iter(message.places)), first)
            version = self._ledger.event(
                MessageMoved(message.id, before_ids, after_ids), message.id, at=source, to=entered
            )
            self._ledger.thread_touched(thread_id_in(message.summary))
        elif before_ids != after_ids:
            self._ledger.bury(self._ledger.change_seq, message.id, before_ids, "moved")
        await self._ledger.execute(_DROP, id=message.id)
        await self._ledger.execute(
            _SET_PLACES,
            key=message.id,
            mailbox_id=first.mailbox_id,
            uid=first.uid,
            modseq=after[first],
            version=version,
            changed_seq=self._ledger.change_seq if before_ids != after_ids else version,
            summary=patched(message.summary, mailbox_ids=after_ids),
            further=len(others),
        )
        await self._add_further(message, {place: after[place] for place in others})
        await self._count(message, after, is_announced=is_announced)

    async def _add_further(self, message: _Message, places: dict[Location, int]) -> None:
        if not places:
            return
        if not await self._are_any():
            self._has_any = True
            await self._ledger.execute(_SET_HAS_ANY)
        rows = [
            {
                "account_id": self._ledger.account_id,
                "mailbox_id": place.mailbox_id,
                "uid": place.uid,
                "message_id": message.id,
                "modseq": modseq,
                "received_at_ms": message.received_at_ms,
            }
            for place, modseq in places.items()
        ]
        await self._ledger.tx.execute_many(_ADD, rows)

    async def _count(self, message: _Message, after: dict[Location, int], *, is_announced: bool) -> None:
        """Update the counts, except for messages of the initial sync, which the origin's count includes."""
        flags = flags_of(message.flags)
        for place in message.places.keys() - after.keys():
            mailbox = await self._ledger.mailbox(place.mailbox_id)
            if mailbox is not None:
                self._ledger.left(mailbox, flags)
        for place in after.keys() - message.places.keys() if is_announced else ():
            mailbox = await self._ledger.mailbox(place.mailbox_id)
            if mailbox is not None:
                self._ledger.entered(mailbox, flags)

    async def _ranked(self, places: Iterable[Location]) -> list[Location]:
        mailboxes = {place: await self._ledger.mailbox(place.mailbox_id) for place in places}
        return sorted(places, key=lambda place: (_rank(mailboxes[place]), place.mailbox_id, -place.uid))


def _rank(mailbox: MailboxState | None) -> tuple[int, bool]:
    """The provider's own mailboxes ("[Gmail]/Important") come after a user's labels."""
    return (9, False) if mailbox is None else (_RANKS.get(mailbox.role, 2), mailbox.path.startswith("["))


def _mailbox_ids(places: Iterable[Location]) -> list[MailboxId]:
    return sorted({place.mailbox_id for place in places})
