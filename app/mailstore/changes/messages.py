"""Facts of a Delta about existing messages: moved, copied, flagged, removed, previewed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson
from sqlalchemy import BindParameter, bindparam, delete, select, update

from app.db.session import Statement, is_one_of, json_list
from app.db.tables import DETAIL, MESSAGE, SEARCH_TEXT
from app.mail.delta import Copied, Flagged, Location, Moved, Previewed, Reason, Removed
from app.mail.events import ABSENT, MessageCreated, MessageDeleted, MessageMoved, MessageUpdated
from app.mail.identifiers import new_id
from app.mail.searchable import TextState
from app.mail.summaries import patched, shown_summary, thread_id_in
from app.mail.types import SEEN, MailboxId, MessageId, keywords_of
from app.mailstore.changes.arrivals import ADD_DETAIL, ADD_MESSAGE
from app.mailstore.changes.context import ChangeContext, MailboxState
from app.mailstore.changes.departures import Departures
from app.mailstore.changes.places import PlacementState, Places
from app.mailstore.rows import flags_of, flags_to_text

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_MESSAGES_IN = (MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id"))

_BRIEF = (
    MESSAGE.c.id, MESSAGE.c.uid, MESSAGE.c.flags, MESSAGE.c.modseq, MESSAGE.c.version, MESSAGE.c.summary,
    MESSAGE.c.further,
)  # fmt: skip
_BRIEFS: Statement = select(*_BRIEF).where(*_MESSAGES_IN, is_one_of(MESSAGE.c.uid, bindparam("uids")))
_BRIEF_ONE: Statement = select(*_BRIEF).where(*_MESSAGES_IN, MESSAGE.c.uid == bindparam("uid"))
_WHOLE: Statement = select(MESSAGE).where(*_MESSAGES_IN, MESSAGE.c.uid == bindparam("uid"))
_WHOLE_DETAIL: Statement = select(DETAIL).where(DETAIL.c.account_id == _ACCOUNT, DETAIL.c.id == bindparam("message_id"))
_MESSAGE_COLUMNS = tuple(column.name for column in MESSAGE.columns)
_DETAIL_COLUMNS = tuple(column.name for column in DETAIL.columns)


def _set(*names: str, at: tuple[str, ...] = ()) -> Statement:
    """Update these columns; `at`: columns that are set to the event's number."""
    return (
        update(MESSAGE)
        .where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("key"))
        .values({name: bindparam(name) for name in names} | {name: bindparam("version") for name in at})
    )


_SET_FLAGS = _set("flags", "modseq", "version", "summary", at=("flags_seq", "changed_seq"))
_SET_SHARED_FLAGS = _set("flags", "version", "summary", at=("flags_seq", "changed_seq"))
_SET_MODSEQ = _set("modseq")
_SET_PREVIEW = _set("preview", "summary")
_SET_PLACE = _set("mailbox_id", "uid", "modseq", "version", "summary", "saved_at_ms", at=("moved_seq", "changed_seq"))
_DROP_MESSAGES: Statement = delete(MESSAGE).where(
    MESSAGE.c.account_id == _ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("ids"))
)
_DROP_DETAILS: Statement = delete(DETAIL).where(
    DETAIL.c.account_id == _ACCOUNT, is_one_of(DETAIL.c.id, bindparam("ids"))
)
_DROP_TEXTS: Statement = delete(SEARCH_TEXT).where(
    SEARCH_TEXT.c.account_id == _ACCOUNT, is_one_of(SEARCH_TEXT.c.message_id, bindparam("ids"))
)


class MessageChanges:
    """Applies facts about messages that have rows."""

    def __init__(self, ledger: ChangeContext, places: Places) -> None:
        self._ledger = ledger
        self._places = places
        self._departures = Departures(ledger)

    async def move(self, moved: Moved) -> None:
        source = await self._ledger.mailbox(moved.source.mailbox_id)
        target = await self._ledger.mailbox(moved.target.mailbox_id)
        rows = await self._briefs(moved.source.mailbox_id, [moved.source.uid])
        if source is None or target is None or not rows:
            return
        id_, _, flags_text, _, _, summary, further = rows[moved.source.uid]
        flags = flags_of(flags_text)
        uid = moved.target.uid
        merged_flags = await self._merge(Location(target.id, uid), MessageId(id_)) if uid else None
        if further:
            await self._places.move(MessageId(id_), moved.source, moved.target, moved.modseq)
            return
        uid = self._ledger.number(target, uid)
        location = Location(target.id, uid)
        event = MessageMoved(id_, [source.id], [target.id])
        seq = self._ledger.event(event, id_, at=moved.source, to=location)
        await self._ledger.execute(
            _SET_PLACE,
            key=id_,
            mailbox_id=target.id,
            uid=uid,
            modseq=moved.modseq or (seq if self._ledger.is_origin else 0),  # the source's applies only there
            version=seq,
            summary=patched(summary, mailbox_ids=[target.id]),
            saved_at_ms=self._ledger.saved_at_ms,
        )
        self._ledger.left(source, flags)
        self._ledger.entered(target, flags)
        self._ledger.thread_touched(thread_id_in(summary))
        if merged_flags is not None:
            await self.flag([merged_flags])
        self._ledger.applied.message_ids[location] = id_
        self._ledger.applied.copies[moved.source] = location

    async def _merge(self, at: Location, id_: MessageId) -> Flagged | None:
        """Delete the row of an arrival that turned out to be this moved message.

        Returns its flags, which the moved message gets.
        """
        briefs = await self._briefs(at.mailbox_id, [at.uid])
        if not briefs or briefs[at.uid].id == id_:
            return None
        brief = briefs[at.uid]
        await self._drop(at.mailbox_id, briefs.values(), Reason.MERGED)
        return Flagged(at, flags_of(brief.flags), brief.modseq)

    async def copy(self, copied: Copied) -> None:
        if copied.is_shared:
            await self._place_too(copied)
            return
        target = await self._ledger.mailbox(copied.target.mailbox_id)
        row = await self._ledger.row(_WHOLE, mailbox_id=copied.source.mailbox_id, uid=copied.source.uid)
        if target is None or row is None:
            return
        if copied.target.uid and await self._briefs(target.id, [copied.target.uid]):
            self._ledger.applied.copies[copied.source] = copied.target  # the watch was faster
            return
        values = dict(zip(_MESSAGE_COLUMNS, row, strict=True))
        source_id, id_ = values["id"], MessageId(new_id("msg"))
        uid = self._ledger.number(target, copied.target.uid)
        location = Location(target.id, uid)
        summary = patched(values["summary"], id=id_, mailbox_ids=[target.id])
        seq = self._ledger.event(MessageCreated(target.id, orjson.Fragment(shown_summary(summary))), id_, at=location)
        values |= {"id": id_, "mailbox_id": target.id, "uid": uid, "version": seq, "summary": summary}
        values |= {"created_seq": seq, "moved_seq": 0, "flags_seq": 0, "other_seq": 0, "changed_seq": seq}
        values["saved_at_ms"] = self._ledger.saved_at_ms
        values["modseq"] = copied.modseq or seq if self._ledger.is_origin else copied.modseq
        values["has_attachments"] = bool(values["has_attachments"])
        if values["text_state"] != TextState.UNREAD:
            values["text_state"] = TextState.AWAITED
        await self._ledger.tx.execute(ADD_MESSAGE, **values)
        detail = await self._ledger.row(_WHOLE_DETAIL, message_id=source_id)
        if detail is not None:
            await self._ledger.tx.execute(ADD_DETAIL, **{**dict(zip(_DETAIL_COLUMNS, detail, strict=True)), "id": id_})
        self._ledger.entered(target, flags_of(values["flags"]))
        self._ledger.thread_touched(values["thread_id"])
        self._ledger.applied.message_ids[location] = id_
        self._ledger.applied.copies[copied.source] = location

    async def _place_too(self, copied: Copied) -> None:
        briefs = await self._briefs(copied.source.mailbox_id, [copied.source.uid])
        for brief in briefs.values():
            await self._places.add(brief.id, copied.target, copied.modseq)
            self._ledger.applied.copies[copied.source] = copied.target

    async def flag(self, flagged: Sequence[Flagged]) -> None:
        by_mailbox: dict[MailboxId, list[Flagged]] = {}
        for item in flagged:
            by_mailbox.setdefault(item.location.mailbox_id, []).append(item)
        for mailbox_id, changes in by_mailbox.items():
            mailbox = await self._ledger.mailbox(mailbox_id)
            if mailbox is None:
                continue
            last = _last_of_each(changes)
            briefs = await self._briefs(mailbox_id, list(last))
            for uid, change in last.items():
                if uid in briefs:
                    await self._flag_one(mailbox, change, briefs[uid])

    async def _flag_one(self, mailbox: MailboxState, change: Flagged, brief: PlacementState) -> None:
        id_, modseq, further = brief.id, brief.modseq, brief.further
        if change.modseq and change.modseq < modseq:
            return
        if further and change.modseq:
            await self._places.note_modseq(id_, change.location, change.modseq)
        before = flags_of(brief.flags)
        if before == change.flags:
            if not self._ledger.is_origin and change.modseq != modseq and not further:
                await self._ledger.execute(_SET_MODSEQ, key=id_, modseq=change.modseq)
            return
        keywords = keywords_of(change.flags)
        unread = (SEEN not in change.flags) - (SEEN not in before)
        mailbox_ids = await self._places.recount(id_, unread) if further else ABSENT
        event = MessageUpdated(mailbox.id, id_, ["keywords"], keywords, mailbox_ids)
        seq = self._ledger.event(event, id_, at=change.location)
        self._ledger.thread_touched(thread_id_in(brief.summary))
        modseq = change.modseq or (seq if self._ledger.is_origin else 0)
        self._ledger.applied.modseqs[change.location] = modseq
        await self._ledger.execute(
            _SET_SHARED_FLAGS if further else _SET_FLAGS,
            key=id_,
            flags=flags_to_text(change.flags),
            modseq=modseq,
            version=seq,
            summary=patched(brief.summary, keywords=keywords),
        )
        if not further:
            mailbox.unread += unread
            self._ledger.touched(mailbox)

    async def remove(self, removed: Sequence[Removed]) -> None:
        groups: dict[tuple[MailboxId, Reason], list[int]] = {}
        for removal in removed:
            groups.setdefault((removal.location.mailbox_id, removal.reason), []).append(removal.location.uid)
        for (mailbox_id, reason), uids in groups.items():
            briefs = await self._briefs(mailbox_id, uids)
            if briefs:
                await self._drop(mailbox_id, [briefs[uid] for uid in sorted(briefs)], reason)

    async def _drop(self, mailbox_id: MailboxId, briefs: Iterable[PlacementState], reason: Reason) -> None:
        mailbox = await self._ledger.mailbox(mailbox_id)
        if mailbox is None:
            return
        ids = []
        for brief in briefs:
            at = Location(mailbox_id, brief.uid)
            if brief.further and await self._places.leave(brief.id, at):
                continue
            event = MessageDeleted(brief.id, mailbox_id, brief.uid, mailbox.uid_validity, reason.value)
            self._ledger.event(event, brief.id, at=at)
            self._ledger.left(mailbox, flags_of(brief.flags))
            self._ledger.thread_touched(thread_id_in(brief.summary), has_lost=True)
            ids.append(brief.id)
        if reason is not Reason.MERGED:  # a merged row was never a message of its own
            await self._departures.remember(ids)
        await self._ledger.execute(_DROP_MESSAGES, ids=json_list(ids))
        await self._ledger.execute(_DROP_DETAILS, ids=json_list(ids))
        await self._ledger.execute(_DROP_TEXTS, ids=json_list(ids))

    async def preview(self, previewed: Previewed) -> None:
        briefs = await self._briefs(previewed.location.mailbox_id, [previewed.location.uid])
        for brief in briefs.values():
            await self._ledger.execute(
                _SET_PREVIEW,
                key=brief.id,
                preview=previewed.preview,
                summary=patched(brief.summary, preview=previewed.preview),
            )

    async def _briefs(self, mailbox_id: MailboxId, uids: Sequence[int]) -> dict[int, PlacementState]:
        if len(uids) == 1:
            row = await self._ledger.row(_BRIEF_ONE, mailbox_id=mailbox_id, uid=uids[0])
            return (
                await self._places.briefs_at(mailbox_id, uids) if row is None else {uids[0]: PlacementState._make(row)}
            )
        rows = await self._ledger.rows(_BRIEFS, mailbox_id=mailbox_id, uids=json_list(list(uids)))
        briefs = {brief.uid: brief for brief in map(PlacementState._make, rows)}
        if len(briefs) == len(uids):
            return briefs
        return briefs | await self._places.briefs_at(mailbox_id, [uid for uid in uids if uid not in briefs])


def _last_of_each(changes: Iterable[Flagged]) -> dict[int, Flagged]:
    """Return by UID the fact that applies to each message: the last, or one with a higher MODSEQ."""
    last: dict[int, Flagged] = {}
    for change in changes:
        uid = change.location.uid
        if uid not in last or not change.modseq or change.modseq >= last[uid].modseq:
            last[uid] = change
    return last
