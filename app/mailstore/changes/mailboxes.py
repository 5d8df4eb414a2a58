"""Mailbox facts of a Delta: found, renamed, reset, set, counted, deleted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import BigInteger, BindParameter, bindparam, case, delete, func, insert, select, union_all, update

from app.db.session import Statement, value_of
from app.db.tables import ACCOUNT, DETAIL, MAILBOX, MESSAGE, PLACEMENT, SEARCH_TEXT
from app.mail.delta import (
    Location,
    MailboxCounted,
    MailboxDeleted,
    MailboxFound,
    MailboxRenamed,
    MailboxReset,
    MailboxSet,
    MailboxTroubled,
)
from app.mail.events import (
    MailboxCreatedEvent,
    MailboxDeletedEvent,
    MailboxEvent,
    MailboxResetEvent,
    MailboxUpdatedEvent,
)
from app.mail.identifiers import new_id
from app.mail.types import SEEN, MailboxId
from app.mailstore.changes.context import MAILBOX_COLUMNS, ChangeContext, MailboxState
from app.mailstore.changes.departures import Departures
from app.mailstore.changes.places import Places
from app.mailstore.placed import ITS_MESSAGE

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_MESSAGES_IN = (MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id"))

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
_MAILBOX_BY_NAME: Statement = select(MAILBOX.c.id).where(
    MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.origin_name == bindparam("origin_name")
)
_ADD_MAILBOX: Statement = insert(MAILBOX)
_DROP_MAILBOX: Statement = delete(MAILBOX).where(
    MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.id == bindparam("mailbox_id")
)
_DROP_ALL_DETAILS: Statement = delete(DETAIL).where(
    DETAIL.c.account_id == _ACCOUNT,
    DETAIL.c.id.in_(select(MESSAGE.c.id).where(*_MESSAGES_IN)),
)
_DROP_ALL_TEXTS: Statement = delete(SEARCH_TEXT).where(
    SEARCH_TEXT.c.account_id == _ACCOUNT,
    SEARCH_TEXT.c.message_id.in_(select(MESSAGE.c.id).where(*_MESSAGES_IN)),
)
_DROP_ALL_MESSAGES: Statement = delete(MESSAGE).where(*_MESSAGES_IN)
_FLAGS_IN = union_all(
    select(MESSAGE.c.flags).where(*_MESSAGES_IN),
    select(MESSAGE.c.flags)
    .join_from(PLACEMENT, MESSAGE, ITS_MESSAGE)
    .where(PLACEMENT.c.account_id == _ACCOUNT, PLACEMENT.c.mailbox_id == bindparam("mailbox_id")),
).subquery()
_COUNTS: Statement = select(_FLAGS_IN.c.flags, func.count()).group_by(_FLAGS_IN.c.flags)


class MailboxWrites:
    """Applies facts about mailboxes."""

    def __init__(self, ledger: ChangeContext, places: Places) -> None:
        self._ledger = ledger
        self._places = places
        self._departures = Departures(ledger)

    async def find(self, found: MailboxFound) -> None:
        known: MailboxId | None = value_of(await self._ledger.row(_MAILBOX_BY_NAME, origin_name=found.origin_name))
        if known is not None:
            await self._refresh(known, found)
            return
        uid_validity = found.uid_validity or await self._new_uid_validity()
        id_ = MailboxId(new_id("mbx"))
        mailbox = MailboxState(
            id_,
            found.origin_name,
            found.path,
            found.role,
            uid_validity,
            1,
            self._ledger.seq + 1 if self._ledger.is_origin else 0,
            0,
            0,
            found.is_subscribed,
            found.is_selectable,
            self._ledger.is_origin,
            found.delimiter,
            is_newcomer=found.is_newcomer,
            origin_id=found.origin_id,
        )
        self._ledger.mailboxes[id_] = mailbox
        self._ledger.applied.mailbox_ids[found.origin_name] = id_
        self._announce(MailboxCreatedEvent, mailbox)
        mailbox.created_seq = mailbox.changed_seq = self._ledger.seq
        values = {name: getattr(mailbox, name) for name in MAILBOX_COLUMNS}
        await self._ledger.tx.execute(
            _ADD_MAILBOX,
            **{**values, "account_id": self._ledger.account_id, "recent_from_uid": 1, "forgotten_seq": 0},
        )

    async def _new_uid_validity(self) -> int:
        """The time in seconds, or the last plus one: increasing and never reused within the account, 32 bits."""
        return int(value_of(await self._ledger.row(_NEXT_VALIDITY, now=self._ledger.at_ms // 1000)))

    async def _refresh(self, id_: MailboxId, found: MailboxFound) -> None:
        mailbox = await self._ledger.mailbox(id_)
        assert mailbox is not None
        self._ledger.applied.mailbox_ids[found.origin_name] = id_
        if found.origin_id not in (None, mailbox.origin_id):
            mailbox.origin_id = found.origin_id
            mailbox.is_changed = True
        before = (mailbox.path, mailbox.role, bool(mailbox.is_subscribed), bool(mailbox.is_selectable))
        role = found.role if found.role is not None else mailbox.role
        if before != (found.path, role, found.is_subscribed, found.is_selectable):
            mailbox.path, mailbox.role = found.path, role
            mailbox.is_subscribed, mailbox.is_selectable = found.is_subscribed, found.is_selectable
            self._announce_change(mailbox)

    async def rename(self, renamed: MailboxRenamed) -> None:
        mailbox = await self._ledger.mailbox(renamed.mailbox_id)
        if mailbox is None or mailbox.origin_name == renamed.origin_name:
            return
        mailbox.path, mailbox.origin_name = renamed.path, renamed.origin_name
        self._announce_change(mailbox)
        await self._ledger.save(mailbox)  # at once: another mailbox of this Delta may take the old name

    async def set(self, change: MailboxSet) -> None:
        mailbox = await self._ledger.mailbox(change.mailbox_id)
        if mailbox is None:
            return
        subscribed = bool(mailbox.is_subscribed) if change.is_subscribed is None else change.is_subscribed
        role = None if change.is_role_cleared else change.role or mailbox.role
        if (subscribed, role) != (bool(mailbox.is_subscribed), mailbox.role):
            mailbox.is_subscribed, mailbox.role = subscribed, role
            self._announce_change(mailbox)

    async def count(self, counted: MailboxCounted) -> None:
        mailbox = await self._ledger.mailbox(counted.mailbox_id)
        if mailbox is None:
            return
        for name in ("uid_next", "highest_modseq"):
            value = getattr(counted, name)
            if value is not None:
                setattr(mailbox, name, value)
        if counted.is_complete is not None:
            mailbox.is_complete = counted.is_complete
        if counted.is_complete:  # counted once; from then on each change counts itself
            rows = await self._ledger.rows(_COUNTS, mailbox_id=mailbox.id)
            mailbox.total = sum(count for _, count in rows)
            mailbox.unread = sum(count for flags, count in rows if SEEN not in flags.split(" "))
        elif not mailbox.is_complete:
            mailbox.total = mailbox.total if counted.total is None else counted.total
            mailbox.unread = mailbox.unread if counted.unread is None else counted.unread
        mailbox.is_changed = True

    async def trouble(self, troubled: MailboxTroubled) -> None:
        mailbox = await self._ledger.mailbox(troubled.mailbox_id)
        if mailbox is not None and mailbox.problem != troubled.problem:
            mailbox.problem = troubled.problem
            self._announce_change(mailbox)

    async def reset(self, reset: MailboxReset) -> None:
        mailbox = await self._ledger.mailbox(reset.mailbox_id)
        if mailbox is None or mailbox.uid_validity == reset.uid_validity:
            return
        await self._places.leave_all(mailbox, is_announced=False)
        await self._drop_all(mailbox)
        mailbox.uid_validity, mailbox.uid_next, mailbox.highest_modseq = reset.uid_validity, 1, 0
        mailbox.total = mailbox.unread = 0
        mailbox.is_complete = mailbox.is_newcomer = False
        mailbox.problem = None
        mailbox.is_changed = True
        self._announce(MailboxResetEvent, mailbox)
        mailbox.reset_seq = self._ledger.seq

    async def delete(self, deleted: MailboxDeleted) -> None:
        mailbox = await self._ledger.mailbox(deleted.mailbox_id)
        if mailbox is None:
            return
        await self._places.leave_all(mailbox, is_announced=True)
        await self._drop_all(mailbox)
        await self._ledger.execute(_DROP_MAILBOX, mailbox_id=mailbox.id)
        self._ledger.mailboxes[mailbox.id] = None
        self._announce(MailboxDeletedEvent, mailbox)

    async def _drop_all(self, mailbox: MailboxState) -> None:
        await self._departures.remember_all(mailbox.id)
        await self._ledger.execute(_DROP_ALL_DETAILS, mailbox_id=mailbox.id)
        await self._ledger.execute(_DROP_ALL_TEXTS, mailbox_id=mailbox.id)
        await self._ledger.execute(_DROP_ALL_MESSAGES, mailbox_id=mailbox.id)

    def _announce_change(self, mailbox: MailboxState) -> None:
        mailbox.is_changed = True
        self._announce(partial(MailboxUpdatedEvent, problem=mailbox.problem), mailbox)

    def _announce(self, event_with: Callable[..., MailboxEvent], mailbox: MailboxState) -> None:
        event = event_with(
            mailbox_id=mailbox.id,
            path=mailbox.path,
            name=mailbox.path.rpartition("/")[2],
            role=mailbox.role,
            is_subscribed=bool(mailbox.is_subscribed),
            uid_validity=mailbox.uid_validity,
        )
        self._ledger.event(event, mailbox.id, at=Location(mailbox.id, 0))
