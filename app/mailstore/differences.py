"""The changes after a position, from rows and tombstones, with or without the event log.

Each row has the numbers of the events that created, moved, flagged and last changed it. A message or mailbox that was
removed has a tombstone with the number of its event.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import orjson
from sqlalchemy import BindParameter, bindparam, select

from app.db.session import Database, Row, Statement, in_code_order, is_one_of, json_list
from app.db.tables import MAILBOX, MESSAGE, TOMBSTONE
from app.mail.types import AccountId, keywords_of
from app.mailstore.rows import flags_of

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_MESSAGE_COLUMNS = (
    MESSAGE.c.changed_seq, MESSAGE.c.id, MESSAGE.c.created_seq, MESSAGE.c.moved_seq, MESSAGE.c.flags_seq,
    MESSAGE.c.other_seq, MESSAGE.c.mailbox_id, MESSAGE.c.further, MESSAGE.c.flags, MESSAGE.c.summary,
)  # fmt: skip
_TOMBSTONE_COLUMNS = (TOMBSTONE.c.seq, TOMBSTONE.c.subject, TOMBSTONE.c.mailbox_ids, TOMBSTONE.c.reason)
_MESSAGES: Statement = (
    select(*_MESSAGE_COLUMNS)
    .where(
        MESSAGE.c.account_id == _ACCOUNT,
        MESSAGE.c.changed_seq > bindparam("seq"),
        MESSAGE.c.changed_seq <= bindparam("to_seq"),
    )
    .order_by(MESSAGE.c.changed_seq)
    .limit(bindparam("limit"))
)
_TOMBSTONES: Statement = (
    select(*_TOMBSTONE_COLUMNS)
    .where(
        TOMBSTONE.c.account_id == _ACCOUNT, TOMBSTONE.c.seq > bindparam("seq"), TOMBSTONE.c.seq <= bindparam("to_seq")
    )
    .order_by(TOMBSTONE.c.seq)
    .limit(bindparam("limit"))
)
_BY_IDS: Statement = select(*_MESSAGE_COLUMNS).where(
    MESSAGE.c.account_id == _ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("ids"))
)
_MAILBOXES: Statement = (
    select(MAILBOX.c.id, MAILBOX.c.created_seq, MAILBOX.c.changed_seq, MAILBOX.c.reset_seq, MAILBOX.c.forgotten_seq)
    .where(MAILBOX.c.account_id == _ACCOUNT)
    .order_by(in_code_order(MAILBOX.c.path))
)
_EVERY = 2**62


@dataclass(frozen=True, slots=True)
class ChangedMessage:
    """A message, and the numbers of the events that changed it."""

    changed_seq: int
    id: str
    created_seq: int
    moved_seq: int
    flags_seq: int
    other_seq: int
    mailbox_ids: tuple[str, ...]
    keywords: list[str]
    summary: bytes


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A message left `mailbox_ids` (reason "moved") or was deleted. A mailbox was deleted if `mailbox_ids` is None."""

    seq: int
    subject: str
    mailbox_ids: tuple[str, ...] | None
    reason: str


@dataclass(frozen=True, slots=True)
class MailboxNumbers:
    """The numbers of the events that created, changed and reset a mailbox, and of its last trimmed tombstone."""

    id: str
    created_seq: int
    changed_seq: int
    reset_seq: int
    forgotten_seq: int


@dataclass(frozen=True, slots=True)
class DifferencePage:
    """The changes after a position up to `to_seq`; None: up to now."""

    messages: list[ChangedMessage]
    tombstones: list[Tombstone]
    to_seq: int | None


class Differences:
    """Reads changes of mail from rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, account_id: AccountId, seq: int, limit: int) -> DifferencePage:
        """Return up to `limit` messages and as many tombstones; more only if one event's number has more."""
        messages = await self._messages(account_id, seq, limit + 1)
        tombstones = await self._tombstones(account_id, seq, limit + 1)
        numbers = [message.changed_seq for message in messages], [tombstone.seq for tombstone in tombstones]
        beyond = [seqs[limit] for seqs in numbers if len(seqs) > limit]
        if not beyond:
            return DifferencePage(messages, tombstones, None)
        to_seq = max(min(beyond) - 1, min(seqs[0] for seqs in numbers if seqs))
        messages = await self._messages(account_id, seq, _EVERY, to_seq)
        tombstones = await self._tombstones(account_id, seq, _EVERY, to_seq)
        return DifferencePage(messages, tombstones, to_seq)

    async def messages(self, account_id: AccountId, ids: Collection[str]) -> list[ChangedMessage]:
        """Return those that exist."""
        if not ids:
            return []
        rows = await self._database.rows(_BY_IDS, is_long=True, account_id=account_id, ids=json_list(list(ids)))
        return [_message(row) for row in rows]

    async def mailboxes(self, account_id: AccountId) -> list[MailboxNumbers]:
        """Return all mailboxes, by path."""
        return [MailboxNumbers(*row) for row in await self._database.rows(_MAILBOXES, account_id=account_id)]

    async def _messages(
        self, account_id: AccountId, seq: int, limit: int, to_seq: int = _EVERY
    ) -> list[ChangedMessage]:
        rows = await self._database.rows(
            _MESSAGES, is_long=True, account_id=account_id, seq=seq, to_seq=to_seq, limit=limit
        )
        return [_message(row) for row in rows]

    async def _tombstones(self, account_id: AccountId, seq: int, limit: int, to_seq: int = _EVERY) -> list[Tombstone]:
        rows = await self._database.rows(
            _TOMBSTONES, is_long=True, account_id=account_id, seq=seq, to_seq=to_seq, limit=limit
        )
        return [_tombstone(row) for row in rows]


def _message(row: Row) -> ChangedMessage:
    changed_seq, id_, created_seq, moved_seq, flags_seq, other_seq, mailbox_id, further, flags, summary = row
    mailbox_ids = tuple(orjson.loads(summary)["mailbox_ids"]) if further else (mailbox_id,)
    keywords = keywords_of(flags_of(flags))
    return ChangedMessage(
        changed_seq, id_, created_seq, moved_seq, flags_seq, other_seq, mailbox_ids, keywords, summary
    )


def _tombstone(row: Row) -> Tombstone:
    seq, subject, mailbox_ids, reason = row
    return Tombstone(seq, subject, None if mailbox_ids is None else tuple(orjson.loads(mailbox_ids)), reason)
