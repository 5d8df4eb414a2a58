"""The context of one change of an account's mail: its transaction, numbers, changed mailboxes and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import orjson
from sqlalchemy import BindParameter, bindparam, select, update

from app.cause import current_cause
from app.db.session import Row, Statement, Transaction, insert_or
from app.db.tables import MAILBOX, TOMBSTONE
from app.mail.confirmed import Applied
from app.mail.delta import Location
from app.mail.events import EventData
from app.mail.identifiers import now_ms
from app.mail.types import SEEN, AccountId, Flags, MailboxId, Position, ThreadId
from app.mailstore.log import ADD_EVENTS, event_values

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_ADD_TOMBSTONES: Statement = insert_or(TOMBSTONE).on_conflict_do_nothing()


@dataclass(slots=True)
class MailboxState:
    """A mailbox during a change; saved at the end."""

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
    created_seq: int = 0
    changed_seq: int = 0
    reset_seq: int = 0
    is_newcomer: bool = False
    origin_id: str | None = None
    problem: str | None = None
    is_changed: bool = False
    shown_before: tuple[object, ...] = ()

    @property
    def shown(self) -> tuple[object, ...]:
        """The columns that callers see. Only a change of these is a change of the mailbox."""
        return (
            self.path, self.role, self.uid_validity, self.uid_next, self.total, self.unread, bool(self.is_subscribed),
            bool(self.is_complete), self.problem,
        )  # fmt: skip


MAILBOX_COLUMNS = tuple(
    field.name for field in fields(MailboxState) if field.name not in ("is_changed", "shown_before")
)
"""The columns of a MailboxState, in the order of its fields."""
_NEVER_CHANGED = ("id", "delimiter", "created_seq")
_MAILBOX: Statement = select(*(MAILBOX.c[name] for name in MAILBOX_COLUMNS)).where(
    MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.id == bindparam("mailbox_id")
)
_SAVE_MAILBOX: Statement = (
    update(MAILBOX)
    .where(MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.id == bindparam("key"))
    .values({name: bindparam(name) for name in MAILBOX_COLUMNS if name not in _NEVER_CHANGED})
)


class ChangeContext:
    """The state while a Delta is written; `close` saves it.

    `is_origin`: an embedded account, whose index numbers messages itself and sets UIDNEXT and HIGHESTMODSEQ.
    """

    def __init__(self, transaction: Transaction, account_id: AccountId, position: Position, *, is_origin: bool) -> None:
        self.tx = transaction
        self.account_id = account_id
        self.is_origin = is_origin
        self.cause = current_cause()
        seq = self.seq = position.seq
        self.at_ms = max(now_ms(), position.at_ms)  # a clock that was set back does not set the log back
        self.mailboxes: dict[str, MailboxState | None] = {}
        self.applied = Applied(seq, at_ms=position.at_ms, seq_before=seq)
        self.threads: dict[ThreadId, bool] = {}
        """Threads whose messages changed; True if a message left."""
        self._events: list[dict[str, Any]] = []
        self._tombstones: list[dict[str, Any]] = []

    async def rows(self, statement: Statement, **values: object) -> Sequence[Row]:
        """Return rows of this account: the statement's `account_id` is bound to it."""
        return await self.tx.rows(statement, account_id=self.account_id, **values)

    async def row(self, statement: Statement, **values: object) -> Row | None:
        """Return the first row, or None; see `rows`."""
        return await self.tx.row(statement, account_id=self.account_id, **values)

    async def execute(self, statement: Statement, **values: object) -> int:
        """Return the number of rows changed; see `rows`."""
        return await self.tx.execute(statement, account_id=self.account_id, **values)

    async def close(self) -> None:
        """Write the changed mailboxes and the events."""
        for mailbox in self.mailboxes.values():
            if mailbox is not None and mailbox.is_changed:
                await self.save(mailbox)
        if self._events:
            await self.tx.execute_many(ADD_EVENTS, self._events)
            self.applied.at_ms = self.at_ms
        if self._tombstones:
            await self.tx.execute_many(_ADD_TOMBSTONES, self._tombstones)
        self.applied.seq = self.seq

    @property
    def change_seq(self) -> int:
        """The number of a change without its own event: that of this change's last event, or of the next event.

        A caller that has read the account before this change has only lower numbers.
        """
        return self.seq if self.seq > self.applied.seq_before else self.seq + 1

    def event(
        self,
        event: EventData,
        subject: str,
        *,
        at: Location | None = None,
        to: Location | None = None,
    ) -> int:
        """Log an event and return its number."""
        self.seq += 1
        values = event_values(
            self.account_id,
            self.seq,
            self.at_ms,
            event,
            subject,
            cause=self.cause,
            mailbox_id=at.mailbox_id if at else None,
            uid=at.uid if at else None,
            target=(to.mailbox_id, to.uid) if to else None,
        )
        self._events.append(values)
        ending = event.ending()
        if ending is not None:
            self.bury(self.seq, subject, *ending)
        return self.seq

    def bury(self, seq: int, subject: str, mailbox_ids: Sequence[object] | None, reason: str) -> None:
        """Record that a message left mailboxes, or that a mailbox was deleted (None), for when the log is trimmed."""
        where = None if mailbox_ids is None else orjson.dumps(mailbox_ids).decode()
        self._tombstones.append(
            {
                "account_id": self.account_id,
                "seq": seq,
                "subject": subject,
                "mailbox_ids": where,
                "reason": reason,
                "at_ms": self.at_ms,
            }
        )

    def thread_touched(self, thread_id: ThreadId, *, has_lost: bool = False) -> None:
        self.threads[thread_id] = has_lost or self.threads.get(thread_id, False)

    async def mailbox(self, id_: MailboxId) -> MailboxState | None:
        if id_ not in self.mailboxes:
            row = await self.row(_MAILBOX, mailbox_id=id_)
            mailbox = self.mailboxes[id_] = None if row is None else MailboxState(*row)
            if mailbox is not None:
                mailbox.shown_before = mailbox.shown
        return self.mailboxes[id_]

    async def save(self, mailbox: MailboxState) -> None:
        if mailbox.shown != mailbox.shown_before:
            mailbox.changed_seq = self.change_seq
        await self.execute(
            _SAVE_MAILBOX,
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
            changed_seq=mailbox.changed_seq,
            reset_seq=mailbox.reset_seq,
            is_newcomer=bool(mailbox.is_newcomer),
            origin_id=mailbox.origin_id,
            problem=mailbox.problem,
        )

    @property
    def saved_at_ms(self) -> int | None:
        """When a message of this change was saved to its mailbox (RFC 8514); None for external accounts."""
        return self.at_ms if self.is_origin else None

    def number(self, mailbox: MailboxState, uid: int) -> int:
        """Return the UID of a message that is added to a mailbox."""
        if uid == 0:
            uid = mailbox.uid_next
        if self.is_origin:
            mailbox.uid_next = max(mailbox.uid_next, uid + 1)
            mailbox.is_changed = True
        return uid

    def entered(self, mailbox: MailboxState, flags: Flags, count: int = 1) -> None:
        mailbox.total += count
        if SEEN not in flags:
            mailbox.unread += count
        self.touched(mailbox)

    def left(self, mailbox: MailboxState, flags: Flags) -> None:
        self.entered(mailbox, flags, -1)

    def touched(self, mailbox: MailboxState) -> None:
        mailbox.is_changed = True
        if self.is_origin:
            mailbox.highest_modseq = self.seq
