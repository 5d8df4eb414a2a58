"""Writes a Delta: rows, counts and events of one transaction, under the account's lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson
from sqlalchemy import BigInteger, BindParameter, bindparam, case, delete, insert, select, update

from app.db.session import Row, Statement, Transaction, insert_or, is_one_of, json_list
from app.db.tables import ACCOUNT, DETAIL, MAILBOX, MESSAGE, THREAD_LINK
from app.mail.delta import (
    Arrived,
    Copied,
    Delta,
    Flagged,
    Location,
    MailboxCounted,
    MailboxDeleted,
    MailboxFound,
    MailboxRenamed,
    MailboxReset,
    MailboxSet,
    Moved,
    Note,
    Previewed,
    Reason,
    Removed,
)
from app.mail.identifiers import new_id, now_ms
from app.mail.types import SEEN, AccountId, Flags, MailboxId, MessageId, ThreadId, keywords_of
from app.mailstore.log import ADD_EVENTS, event_values
from app.mailstore.rows import detail_values, flags_of, flags_to_text, message_values, patched

F = TypeVar("F")

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_IN_MAILBOX = (MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.id == bindparam("mailbox_id"))
_MESSAGES_IN = (MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
_THE_MESSAGE = (MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("message_id"))

_MAILBOX = select(
    MAILBOX.c.id,
    MAILBOX.c.origin_name,
    MAILBOX.c.path,
    MAILBOX.c.role,
    MAILBOX.c.uid_validity,
    MAILBOX.c.uid_next,
    MAILBOX.c.highest_modseq,
    MAILBOX.c.total,
    MAILBOX.c.unread,
    MAILBOX.c.is_subscribed,
    MAILBOX.c.is_selectable,
    MAILBOX.c.is_complete,
    MAILBOX.c.delimiter,
).where(*_IN_MAILBOX)
_NEXT_VALIDITY: Statement = (
    update(ACCOUNT)
    .where(ACCOUNT.c.id == _ACCOUNT)
    .values(
        last_uid_validity=case(
            (ACCOUNT.c.last_uid_validity >= bindparam("now", type_=BigInteger), ACCOUNT.c.last_uid_validity + 1),
            else_=bindparam("now", type_=BigInteger),
        )
    )
    .returning(ACCOUNT.c.last_uid_validity)
)
_MAILBOX_BY_NAME = select(MAILBOX.c.id).where(
    MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.origin_name == bindparam("origin_name")
)
_ADD_MAILBOX: Statement = insert(MAILBOX)
_SAVE_MAILBOX = (
    update(MAILBOX)
    .where(MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.id == bindparam("key"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "origin_name",
                "path",
                "role",
                "uid_validity",
                "uid_next",
                "highest_modseq",
                "total",
                "unread",
                "is_subscribed",
                "is_selectable",
                "is_complete",
                "changed_seq",
            )
        }
    )
)
_DROP_MAILBOX = delete(MAILBOX).where(*_IN_MAILBOX)

_BRIEF = (
    MESSAGE.c.id, MESSAGE.c.uid, MESSAGE.c.flags, MESSAGE.c.modseq, MESSAGE.c.version, MESSAGE.c.summary,
)  # fmt: skip
_BRIEFS: Statement = select(*_BRIEF).where(*_MESSAGES_IN, is_one_of(MESSAGE.c.uid, bindparam("uids")))
_BRIEF_ONE: Statement = select(*_BRIEF).where(*_MESSAGES_IN, MESSAGE.c.uid == bindparam("uid"))
_UIDS: Statement = select(MESSAGE.c.uid).where(*_MESSAGES_IN, is_one_of(MESSAGE.c.uid, bindparam("uids")))
_ADD_MESSAGE: Statement = insert(MESSAGE)
_ADD_DETAIL: Statement = insert(DETAIL)
_WHOLE: Statement = select(MESSAGE).where(*_MESSAGES_IN, MESSAGE.c.uid == bindparam("uid"))
_WHOLE_DETAIL: Statement = select(DETAIL).where(DETAIL.c.account_id == _ACCOUNT, DETAIL.c.id == bindparam("message_id"))
_MESSAGE_COLUMNS = tuple(column.name for column in MESSAGE.columns)
_DETAIL_COLUMNS = tuple(column.name for column in DETAIL.columns)


def _set(*names: str) -> Statement:
    return (
        update(MESSAGE)
        .where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("key"))
        .values({name: bindparam(name) for name in names})
    )


_SET_FLAGS = _set("flags", "modseq", "version", "summary")
_SET_MODSEQ = _set("modseq")
_SET_PREVIEW = _set("preview", "summary")
_SET_PLACE = _set("mailbox_id", "uid", "modseq", "version", "summary")
_DROP_MESSAGES: Statement = delete(MESSAGE).where(
    MESSAGE.c.account_id == _ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("ids"))
)
_DROP_DETAILS: Statement = delete(DETAIL).where(
    DETAIL.c.account_id == _ACCOUNT, is_one_of(DETAIL.c.id, bindparam("ids"))
)
_DROP_ALL_DETAILS = delete(DETAIL).where(
    DETAIL.c.account_id == _ACCOUNT,
    DETAIL.c.id.in_(select(MESSAGE.c.id).where(*_MESSAGES_IN)),
)
_DROP_ALL_MESSAGES = delete(MESSAGE).where(*_MESSAGES_IN)
_LINKS: Statement = select(THREAD_LINK.c.message_id_header, THREAD_LINK.c.thread_id).where(
    THREAD_LINK.c.account_id == _ACCOUNT, is_one_of(THREAD_LINK.c.message_id_header, bindparam("headers"))
)
_ADD_LINK: Statement = insert_or(THREAD_LINK).on_conflict_do_nothing()
_COUNTS: Statement = select(MESSAGE.c.flags).where(*_MESSAGES_IN)

REFERENCES_LIMIT = 50
"""How many of a message's references take part in threading: its nearest ancestors."""
HEADER_LIMIT = 500
"""Characters of a Message-ID that count."""


@dataclass(slots=True)
class _MailboxState:
    """A mailbox while it changes; saved at the end."""

    id: MailboxId
    origin_name: str
    path: str
    role: str | None
    uid_validity: int
    uid_next: int
    highest_modseq: int
    total: int
    unread: int
    is_subscribed: bool
    is_selectable: bool
    is_complete: bool
    delimiter: str | None
    is_changed: bool = False


@dataclass(slots=True)
class Applied:
    """What came of a Delta: the account's last event number, and the ids of what it named by location."""

    seq: int = 0
    mailbox_ids: dict[str, MailboxId] = field(default_factory=dict)
    """By origin name: the mailboxes found."""
    message_ids: dict[Location, MessageId] = field(default_factory=dict)
    """Arrived, copied and moved messages by where they are now."""
    copies: dict[Location, Location] = field(default_factory=dict)
    """Source → target of what was copied or moved."""
    seq_before: int = 0
    """The account's last event number before: the events of this change are those after it, up to `seq`."""


class DeltaWriter:
    """Applies the facts of a Delta one kind after another. `is_origin`: this index is where the mail lives, so it
    numbers messages itself and keeps UIDNEXT and HIGHESTMODSEQ."""

    def __init__(self, transaction: Transaction, account_id: AccountId, seq: int, *, is_origin: bool) -> None:
        self._tx = transaction
        self._account_id = account_id
        self._is_origin = is_origin
        self._seq = seq
        self._at_ms = now_ms()
        self._events: list[dict[str, Any]] = []
        self._mailboxes: dict[str, _MailboxState | None] = {}
        self.applied = Applied(seq, seq_before=seq)

    async def write(self, delta: Delta) -> None:
        if self._is_origin:
            delta = _without_done(delta)
        await self._each(self._find_mailbox, delta.mailboxes_found)
        await self._each(self._rename_mailbox, delta.mailboxes_renamed)
        await self._each(self._reset_mailbox, delta.mailboxes_reset)
        await self._each(self._set_mailbox, delta.mailboxes_set)
        await self._each(self._move, delta.moved)
        await self._each(self._copy, delta.copied)
        await self._arrive(delta.arrived)
        await self._flag(delta.flagged)
        await self._remove(delta.removed)
        await self._each(self._preview, delta.previewed)
        await self._each(self._count, delta.mailboxes_counted)
        await self._each(self._delete_mailbox, delta.mailboxes_deleted)
        for note in delta.notes:
            self._note(note)
        await self._finish()

    @staticmethod
    async def _each(apply: Callable[[F], Awaitable[None]], facts: Iterable[F]) -> None:
        for fact in facts:
            await apply(fact)

    async def _finish(self) -> None:
        for mailbox in self._mailboxes.values():
            if mailbox is not None and mailbox.is_changed:
                await self._save(mailbox)
        if self._events:
            await self._tx.execute_many(ADD_EVENTS, self._events)
        self.applied.seq = self._seq

    # ---- events

    def _event(
        self,
        type_: str,
        subject: str,
        data: Mapping[str, object],
        *,
        at: Location | None = None,
        to: Location | None = None,
    ) -> int:
        """Log an event; its number."""
        self._seq += 1
        values = event_values(
            self._account_id,
            self._seq,
            self._at_ms,
            type_,
            subject,
            data,
            mailbox_id=at.mailbox_id if at else None,
            uid=at.uid if at else None,
            target=(to.mailbox_id, to.uid) if to else None,
        )
        self._events.append(values)
        return self._seq

    def _note(self, note: Note) -> None:
        self._event(note.type, note.subject, note.facts)

    # ---- mailboxes

    async def _mailbox(self, id_: MailboxId) -> _MailboxState | None:
        if id_ not in self._mailboxes:
            row = await self._tx.row(_MAILBOX, account_id=self._account_id, mailbox_id=id_)
            self._mailboxes[id_] = None if row is None else _MailboxState(*row)
        return self._mailboxes[id_]

    async def _save(self, mailbox: _MailboxState) -> None:
        await self._tx.execute(
            _SAVE_MAILBOX,
            account_id=self._account_id,
            key=mailbox.id,
            origin_name=mailbox.origin_name,
            path=mailbox.path,
            role=mailbox.role,
            uid_validity=mailbox.uid_validity,
            uid_next=mailbox.uid_next,
            highest_modseq=mailbox.highest_modseq,
            total=max(0, mailbox.total),
            unread=max(0, mailbox.unread),
            is_subscribed=bool(mailbox.is_subscribed),
            is_selectable=bool(mailbox.is_selectable),
            is_complete=bool(mailbox.is_complete),
            changed_seq=self._seq,
        )

    def _mailbox_event(self, type_: str, mailbox: _MailboxState) -> None:
        facts = {
            "mailbox_id": mailbox.id,
            "path": mailbox.path,
            "name": mailbox.path.rpartition("/")[2],
            "role": mailbox.role,
            "is_subscribed": bool(mailbox.is_subscribed),
            "uid_validity": mailbox.uid_validity,
        }
        self._event(type_, mailbox.id, facts, at=Location(mailbox.id, 0))

    async def _find_mailbox(self, found: MailboxFound) -> None:
        row = await self._tx.row(_MAILBOX_BY_NAME, account_id=self._account_id, origin_name=found.origin_name)
        if row is not None:
            await self._refresh_mailbox(MailboxId(row[0]), found)
            return
        uid_validity = found.uid_validity or await self._new_uid_validity()
        id_ = MailboxId(new_id("mbx"))
        mailbox = _MailboxState(
            id_,
            found.origin_name,
            found.path,
            found.role,
            uid_validity,
            1,
            self._seq + 1 if self._is_origin else 0,
            0,
            0,
            found.is_subscribed,
            found.is_selectable,
            self._is_origin,
            found.delimiter,
        )
        self._mailboxes[id_] = mailbox
        self.applied.mailbox_ids[found.origin_name] = id_
        self._mailbox_event("mailbox.created", mailbox)
        values = {name: getattr(mailbox, name) for name in _MailboxState.__slots__ if name != "is_changed"}
        await self._tx.execute(
            _ADD_MAILBOX,
            **{**values, "account_id": self._account_id, "recent_from_uid": 1, "changed_seq": self._seq},
        )

    async def _new_uid_validity(self) -> int:
        """The time in seconds, or one more than the last: unique within the account for ever, growing, 32 bits."""
        row = await self._tx.row(_NEXT_VALIDITY, account_id=self._account_id, now=self._at_ms // 1000)
        assert row is not None
        return int(row[0])

    async def _refresh_mailbox(self, id_: MailboxId, found: MailboxFound) -> None:
        mailbox = await self._mailbox(id_)
        assert mailbox is not None
        self.applied.mailbox_ids[found.origin_name] = id_
        before = (mailbox.path, mailbox.role, bool(mailbox.is_subscribed), bool(mailbox.is_selectable))
        role = found.role if found.role is not None else mailbox.role
        if before != (found.path, role, found.is_subscribed, found.is_selectable):
            mailbox.path, mailbox.role = found.path, role
            mailbox.is_subscribed, mailbox.is_selectable = found.is_subscribed, found.is_selectable
            self._mailbox_changed(mailbox)

    def _mailbox_changed(self, mailbox: _MailboxState) -> None:
        mailbox.is_changed = True
        self._mailbox_event("mailbox.updated", mailbox)

    async def _rename_mailbox(self, renamed: MailboxRenamed) -> None:
        mailbox = await self._mailbox(renamed.mailbox_id)
        if mailbox is None or mailbox.origin_name == renamed.origin_name:
            return
        mailbox.path, mailbox.origin_name = renamed.path, renamed.origin_name
        self._mailbox_changed(mailbox)
        await self._save(mailbox)  # at once: another of this Delta may take the old name

    async def _set_mailbox(self, wanted: MailboxSet) -> None:
        mailbox = await self._mailbox(wanted.mailbox_id)
        if mailbox is None:
            return
        subscribed = bool(mailbox.is_subscribed) if wanted.is_subscribed is None else wanted.is_subscribed
        role = None if wanted.is_role_cleared else wanted.role or mailbox.role
        if (subscribed, role) != (bool(mailbox.is_subscribed), mailbox.role):
            mailbox.is_subscribed, mailbox.role = subscribed, role
            self._mailbox_changed(mailbox)

    async def _count(self, counted: MailboxCounted) -> None:
        mailbox = await self._mailbox(counted.mailbox_id)
        if mailbox is None:
            return
        for name in ("uid_next", "highest_modseq"):
            value = getattr(counted, name)
            if value is not None:
                setattr(mailbox, name, value)
        if counted.is_complete is not None:
            mailbox.is_complete = counted.is_complete
        if counted.is_complete:  # counted once; from then on each change counts itself
            rows = await self._tx.rows(_COUNTS, account_id=self._account_id, mailbox_id=mailbox.id)
            mailbox.total = len(rows)
            mailbox.unread = sum(SEEN not in row[0].split(" ") for row in rows)
        elif not mailbox.is_complete:
            mailbox.total = mailbox.total if counted.total is None else counted.total
            mailbox.unread = mailbox.unread if counted.unread is None else counted.unread
        mailbox.is_changed = True

    async def _reset_mailbox(self, reset: MailboxReset) -> None:
        mailbox = await self._mailbox(reset.mailbox_id)
        if mailbox is None or mailbox.uid_validity == reset.uid_validity:
            return
        await self._drop_all(mailbox)
        mailbox.uid_validity, mailbox.uid_next, mailbox.highest_modseq = reset.uid_validity, 1, 0
        mailbox.total = mailbox.unread = 0
        mailbox.is_complete = False
        mailbox.is_changed = True
        self._mailbox_event("mailbox.reset", mailbox)

    async def _delete_mailbox(self, gone: MailboxDeleted) -> None:
        mailbox = await self._mailbox(gone.mailbox_id)
        if mailbox is None:
            return
        await self._drop_all(mailbox)
        await self._tx.execute(_DROP_MAILBOX, account_id=self._account_id, mailbox_id=mailbox.id)
        self._mailboxes[mailbox.id] = None
        self._mailbox_event("mailbox.deleted", mailbox)

    async def _drop_all(self, mailbox: _MailboxState) -> None:
        await self._tx.execute(_DROP_ALL_DETAILS, account_id=self._account_id, mailbox_id=mailbox.id)
        await self._tx.execute(_DROP_ALL_MESSAGES, account_id=self._account_id, mailbox_id=mailbox.id)

    # ---- messages

    async def _briefs(self, mailbox_id: MailboxId, uids: Sequence[int]) -> dict[int, Row]:
        if len(uids) == 1:
            row = await self._tx.row(_BRIEF_ONE, account_id=self._account_id, mailbox_id=mailbox_id, uid=uids[0])
            return {} if row is None else {row[1]: row}
        rows = await self._tx.rows(
            _BRIEFS, account_id=self._account_id, mailbox_id=mailbox_id, uids=json_list(list(uids))
        )
        return {row[1]: row for row in rows}

    def _number(self, mailbox: _MailboxState, uid: int) -> int:
        """The UID of a message that comes into a mailbox."""
        if uid == 0:
            uid = mailbox.uid_next
        if self._is_origin:
            mailbox.uid_next = max(mailbox.uid_next, uid + 1)
        return uid

    def _entered(self, mailbox: _MailboxState, flags: Flags, count: int = 1) -> None:
        mailbox.total += count
        if SEEN not in flags:
            mailbox.unread += count
        self._touched(mailbox)

    def _touched(self, mailbox: _MailboxState) -> None:
        mailbox.is_changed = True
        if self._is_origin:
            mailbox.highest_modseq = self._seq

    async def _arrive(self, arrived: Sequence[Arrived]) -> None:
        fresh = await self._unknown(arrived)
        if not fresh:
            return
        threads = await self._threads(fresh)
        messages, details = [], []
        for one, thread_id in zip(fresh, threads, strict=True):
            mailbox = await self._mailbox(one.mailbox_id)
            if mailbox is None or one.uid_validity not in (None, mailbox.uid_validity):
                continue
            message_id = MessageId(new_id("msg"))
            values = message_values(self._account_id, message_id, thread_id, one)
            values["uid"] = self._number(mailbox, one.uid)
            location = Location(mailbox.id, values["uid"])
            self._announce(mailbox, one, values, location)
            messages.append(values)
            details.append(detail_values(self._account_id, message_id, one))
            self.applied.message_ids[location] = message_id
        await self._tx.execute_many(_ADD_MESSAGE, messages)
        await self._tx.execute_many(_ADD_DETAIL, details)

    def _announce(self, mailbox: _MailboxState, one: Arrived, values: dict[str, Any], location: Location) -> None:
        if one.is_announced:
            facts = {"mailbox_id": mailbox.id, "message": orjson.Fragment(values["summary"])}
            self._event("message.created", values["id"], facts, at=location)
            self._entered(mailbox, one.flags)
        values["version"] = self._seq
        values["modseq"] = one.modseq or self._seq

    async def _unknown(self, arrived: Sequence[Arrived]) -> list[Arrived]:
        """Those that have no row yet. What is numbered here is always new."""
        by_mailbox: dict[MailboxId, list[int]] = {}
        for one in arrived:
            if one.uid:
                by_mailbox.setdefault(one.mailbox_id, []).append(one.uid)
        known: set[tuple[str, int]] = set()
        for mailbox_id, uids in by_mailbox.items():
            rows = await self._tx.rows(_UIDS, account_id=self._account_id, mailbox_id=mailbox_id, uids=json_list(uids))
            known |= {(mailbox_id, row[0]) for row in rows}
        fresh: list[Arrived] = []
        for one in arrived:
            if (one.mailbox_id, one.uid) in known:
                continue
            fresh.append(one)
            if one.uid:
                known.add((one.mailbox_id, one.uid))
        return fresh

    async def _threads(self, arrived: Sequence[Arrived]) -> list[ThreadId]:
        """A thread for each: that of a message it names or is named by, else a new one."""
        related = [_related(one) for one in arrived]
        headers = list({header for one in related for header in one})
        links: dict[str, ThreadId] = {}
        if headers:
            rows = await self._tx.rows(_LINKS, account_id=self._account_id, headers=json_list(headers))
            links = {row[0]: ThreadId(row[1]) for row in rows}
        threads, fresh = [], []
        for one in related:
            thread = next((links[header] for header in one if header in links), None) or ThreadId(new_id("thr"))
            for header in one:
                if header not in links:
                    links[header] = thread
                    fresh.append({"account_id": self._account_id, "message_id_header": header, "thread_id": thread})
            threads.append(thread)
        if fresh:
            await self._tx.execute_many(_ADD_LINK, fresh)
        return threads

    async def _move(self, moved: Moved) -> None:
        source = await self._mailbox(moved.source.mailbox_id)
        target = await self._mailbox(moved.target.mailbox_id)
        rows = await self._briefs(moved.source.mailbox_id, [moved.source.uid])
        if source is None or target is None or not rows:
            return
        id_, _, flags_text, modseq, _, summary = rows[moved.source.uid]
        flags = flags_of(flags_text)
        uid = moved.target.uid
        if uid:
            await self._merge(Location(target.id, uid))
        uid = self._number(target, uid)
        location = Location(target.id, uid)
        facts = {"message_id": id_, "from": [source.id], "to": [target.id]}
        seq = self._event("message.moved", id_, facts, at=moved.source, to=location)
        await self._tx.execute(
            _SET_PLACE,
            account_id=self._account_id,
            key=id_,
            mailbox_id=target.id,
            uid=uid,
            modseq=moved.modseq or (seq if self._is_origin else modseq),
            version=seq,
            summary=patched(summary, mailbox_ids=[target.id]),
        )
        self._left(source, flags)
        self._entered(target, flags)
        self.applied.message_ids[location] = id_
        self.applied.copies[moved.source] = location

    async def _merge(self, at: Location) -> None:
        """Make way for a moved message whose arrival was seen before the move: that row ends here."""
        rows = await self._briefs(at.mailbox_id, [at.uid])
        if rows:
            await self._drop(at.mailbox_id, rows.values(), Reason.MERGED)

    async def _copy(self, copied: Copied) -> None:
        target = await self._mailbox(copied.target.mailbox_id)
        row = await self._tx.row(
            _WHOLE, account_id=self._account_id, mailbox_id=copied.source.mailbox_id, uid=copied.source.uid
        )
        if target is None or row is None:
            return
        if copied.target.uid and await self._briefs(target.id, [copied.target.uid]):
            self.applied.copies[copied.source] = copied.target  # the watcher was quicker
            return
        values = dict(zip(_MESSAGE_COLUMNS, row, strict=True))
        source_id, id_ = values["id"], MessageId(new_id("msg"))
        uid = self._number(target, copied.target.uid)
        location = Location(target.id, uid)
        summary = patched(values["summary"], id=id_, mailbox_ids=[target.id])
        facts = {"mailbox_id": target.id, "message": orjson.Fragment(summary)}
        seq = self._event("message.created", id_, facts, at=location)
        values |= {"id": id_, "mailbox_id": target.id, "uid": uid, "version": seq, "summary": summary}
        values["modseq"] = copied.modseq or seq if self._is_origin else copied.modseq
        values["has_attachments"] = bool(values["has_attachments"])
        await self._tx.execute(_ADD_MESSAGE, **values)
        detail = await self._tx.row(_WHOLE_DETAIL, account_id=self._account_id, message_id=source_id)
        if detail is not None:
            await self._tx.execute(_ADD_DETAIL, **{**dict(zip(_DETAIL_COLUMNS, detail, strict=True)), "id": id_})
        self._entered(target, flags_of(values["flags"]))
        self.applied.message_ids[location] = id_
        self.applied.copies[copied.source] = location

    async def _flag(self, flagged: Sequence[Flagged]) -> None:
        by_mailbox: dict[MailboxId, list[Flagged]] = {}
        for one in flagged:
            by_mailbox.setdefault(one.location.mailbox_id, []).append(one)
        for mailbox_id, changes in by_mailbox.items():
            mailbox = await self._mailbox(mailbox_id)
            if mailbox is None:
                continue
            rows = await self._briefs(mailbox_id, [one.location.uid for one in changes])
            for one in changes:
                if one.location.uid in rows:
                    await self._flag_one(mailbox, one, rows[one.location.uid])

    async def _flag_one(self, mailbox: _MailboxState, change: Flagged, row: Row) -> None:
        id_, _, flags_text, modseq, _, summary = row
        if change.modseq and change.modseq < modseq:
            return
        before = flags_of(flags_text)
        if before == change.flags:
            if change.modseq > modseq:
                await self._tx.execute(_SET_MODSEQ, account_id=self._account_id, key=id_, modseq=change.modseq)
            return
        keywords = keywords_of(change.flags)
        facts = {"mailbox_id": mailbox.id, "message_id": id_, "changed": ["keywords"], "keywords": keywords}
        seq = self._event("message.updated", id_, facts, at=change.location)
        await self._tx.execute(
            _SET_FLAGS,
            account_id=self._account_id,
            key=id_,
            flags=flags_to_text(change.flags),
            modseq=change.modseq or (seq if self._is_origin else modseq),
            version=seq,
            summary=patched(summary, keywords=keywords),
        )
        mailbox.unread += (SEEN not in change.flags) - (SEEN not in before)
        self._touched(mailbox)

    def _left(self, mailbox: _MailboxState, flags: Flags) -> None:
        self._entered(mailbox, flags, -1)

    async def _remove(self, removed: Sequence[Removed]) -> None:
        groups: dict[tuple[MailboxId, Reason], list[int]] = {}
        for one in removed:
            groups.setdefault((one.location.mailbox_id, one.reason), []).append(one.location.uid)
        for (mailbox_id, reason), uids in groups.items():
            rows = await self._briefs(mailbox_id, uids)
            if rows:
                await self._drop(mailbox_id, [rows[uid] for uid in sorted(rows)], reason)

    async def _drop(self, mailbox_id: MailboxId, rows: Iterable[Row], reason: Reason) -> None:
        mailbox = await self._mailbox(mailbox_id)
        if mailbox is None:
            return
        ids = []
        for id_, uid, flags, *_ in rows:
            facts = {
                "message_id": id_,
                "mailbox_id": mailbox_id,
                "uid": uid,
                "uid_validity": mailbox.uid_validity,
                "reason": reason,
            }
            self._event("message.deleted", id_, facts, at=Location(mailbox_id, uid))
            self._left(mailbox, flags_of(flags))
            ids.append(id_)
        await self._tx.execute(_DROP_MESSAGES, account_id=self._account_id, ids=json_list(ids))
        await self._tx.execute(_DROP_DETAILS, account_id=self._account_id, ids=json_list(ids))

    async def _preview(self, previewed: Previewed) -> None:
        rows = await self._briefs(previewed.location.mailbox_id, [previewed.location.uid])
        for row in rows.values():
            await self._tx.execute(
                _SET_PREVIEW,
                account_id=self._account_id,
                key=row[0],
                preview=previewed.preview,
                summary=patched(row[5], preview=previewed.preview),
            )


def _without_done(delta: Delta) -> Delta:
    """What an index that is the origin has yet to do: it numbers itself, so a numbered fact tells what it did already.

    Doing it again could bring back, under its old number, what was removed since.
    """
    return replace(
        delta,
        mailboxes_found=tuple(one for one in delta.mailboxes_found if not one.uid_validity),
        moved=tuple(one for one in delta.moved if not one.target.uid),
        copied=tuple(one for one in delta.copied if not one.target.uid),
        arrived=tuple(one for one in delta.arrived if not one.uid),
    )


def _related(one: Arrived) -> list[str]:
    """The Message-IDs that tie a message to its thread: its own, then its ancestors, nearest first."""
    overview = one.overview
    own = [overview.message_id_header] if overview.message_id_header else []
    ancestors = [*reversed(overview.references[-REFERENCES_LIMIT:]), *overview.in_reply_to[:REFERENCES_LIMIT]]
    return list(dict.fromkeys(header[:HEADER_LIMIT] for header in [*own, *ancestors]))
