"""Queries that delete old rows in batches, so that other writers do not wait long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import orjson
from sqlalchemy import BigInteger, and_, bindparam, delete, func, or_, select, update

from app.db.row_types import RowType
from app.db.session import Database, Statement, Transaction, is_one_of, json_list, value_of
from app.db.tables import ACCOUNT, COMMIT_MARK, DEPARTED, EVENT, MAILBOX, SUBMISSION, TOMBSTONE


@dataclass(frozen=True, slots=True)
class LogSpan:
    """The log of an account: events above `first_seq`, up to `last_seq`."""

    id: str
    first_seq: int
    last_seq: int


class EventTime(NamedTuple):
    """When an event was recorded."""

    seq: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class _Tombstone:
    seq: int
    mailbox_ids: str
    at_ms: int
    subject: str


@dataclass(frozen=True, slots=True)
class _Departed:
    message_id: str
    at_ms: int


_SPANS = RowType(LogSpan, ACCOUNT)
_TIMES = RowType(EventTime, EVENT)
_TOMBSTONES = RowType(_Tombstone, TOMBSTONE)
_DEPARTED = RowType(_Departed, DEPARTED)
_ACCOUNTS: Statement = select(*_SPANS.columns).where(
    ACCOUNT.c.last_seq - ACCOUNT.c.first_seq > bindparam("more_than", type_=BigInteger)
)
_OLDEST: Statement = (
    select(*_TIMES.columns)
    .where(EVENT.c.account_id == bindparam("account_id"), EVENT.c.seq > bindparam("after_seq"))
    .order_by(EVENT.c.seq)
    .limit(bindparam("limit"))
)
_TRIM: Statement = delete(EVENT).where(
    EVENT.c.account_id == bindparam("account_id"), EVENT.c.seq <= bindparam("to_seq")
)
_ADVANCE: Statement = (
    update(ACCOUNT)
    .where(ACCOUNT.c.id == bindparam("account_id"), ACCOUNT.c.first_seq < bindparam("to_seq"))
    .values(first_seq=bindparam("to_seq"), first_event_ms=bindparam("at_ms"))
)
_OF_MESSAGES = (TOMBSTONE.c.account_id == bindparam("account_id"), TOMBSTONE.c.mailbox_ids.is_not(None))
_OLD_TOMBSTONES: Statement = (
    select(*_TOMBSTONES.columns).where(*_OF_MESSAGES).order_by(TOMBSTONE.c.seq).limit(bindparam("limit"))
)
_FORGET: Statement = (
    update(MAILBOX)
    .where(MAILBOX.c.account_id == bindparam("account_id"), MAILBOX.c.id == bindparam("mailbox_id"))
    .values(forgotten_seq=bindparam("seq"))
)
_DROP_TOMBSTONES: Statement = delete(TOMBSTONE).where(
    *_OF_MESSAGES, TOMBSTONE.c.seq <= bindparam("seq"), is_one_of(TOMBSTONE.c.subject, bindparam("subjects"))
)
_OLD_DEPARTED: Statement = (
    select(*_DEPARTED.columns)
    .where(DEPARTED.c.account_id == bindparam("account_id"))
    .order_by(DEPARTED.c.at_ms)
    .limit(bindparam("limit"))
)
_COUNT_DEPARTED: Statement = select(func.count()).where(DEPARTED.c.account_id == bindparam("account_id"))
_DROP_DEPARTED: Statement = delete(DEPARTED).where(
    DEPARTED.c.account_id == bindparam("account_id"), is_one_of(DEPARTED.c.message_id, bindparam("ids"))
)
_IS_OVER = or_(
    and_(SUBMISSION.c.status == "sent", SUBMISSION.c.phase == "done"),
    SUBMISSION.c.status.in_(("failed", "cancelled", "uncertain")),
)
_OLD_SUBMISSIONS: Statement = (
    select(SUBMISSION.c.account_id, SUBMISSION.c.id)
    .where(_IS_OVER, SUBMISSION.c.updated_at_ms < bindparam("before_ms"))
    .limit(bindparam("limit"))
)
_DROP_SUBMISSION: Statement = delete(SUBMISSION).where(
    SUBMISSION.c.account_id == bindparam("of_account"), SUBMISSION.c.id == bindparam("of_id"), _IS_OVER
)

_DROP_MARKS: Statement = delete(COMMIT_MARK).where(COMMIT_MARK.c.id < bindparam("before"))


async def accounts(database: Database, more_than: int = -1) -> list[LogSpan]:
    """Return the logs that have more events than that."""
    return _SPANS.read_all(await database.rows(_ACCOUNTS, is_long=True, more_than=more_than))


async def oldest_events(database: Database, account_id: str, after_seq: int, limit: int) -> list[EventTime]:
    """Return the oldest stored events."""
    rows = await database.rows(_OLDEST, is_long=True, account_id=account_id, after_seq=after_seq, limit=limit)
    return _TIMES.read_all(rows)


async def trim_events(transaction: Transaction, account_id: str, to_seq: int, at_ms: int) -> None:
    """Delete an account's events up to `to_seq`, and record it. `at_ms` is the time of that event."""
    await transaction.execute(_ADVANCE, account_id=account_id, to_seq=to_seq, at_ms=at_ms)
    await transaction.execute(_TRIM, account_id=account_id, to_seq=to_seq)


async def trim_tombstones(transaction: Transaction, account_id: str, before_ms: int, limit: int) -> int:
    """Delete up to `limit` older tombstones of messages, and record it in their mailboxes. Return how many.

    Tombstones of mailboxes are not deleted, because they show which mailboxes were deleted.
    """
    tombstones = _TOMBSTONES.read_all(await transaction.rows(_OLD_TOMBSTONES, account_id=account_id, limit=limit))
    old = [tombstone for tombstone in tombstones if tombstone.at_ms < before_ms]
    if not old:
        return 0
    forgotten = {mailbox_id: item.seq for item in old for mailbox_id in orjson.loads(item.mailbox_ids)}
    for mailbox_id, seq in forgotten.items():
        await transaction.execute(_FORGET, account_id=account_id, mailbox_id=mailbox_id, seq=seq)
    subjects = json_list([tombstone.subject for tombstone in old])
    await transaction.execute(_DROP_TOMBSTONES, account_id=account_id, seq=old[-1].seq, subjects=subjects)
    return len(old)


async def trim_departed(transaction: Transaction, account_id: str, before_ms: int, keep: int, limit: int) -> int:
    """Delete up to `limit` records of deleted messages that are older, or that exceed `keep`."""
    count = value_of(await transaction.row(_COUNT_DEPARTED, account_id=account_id))
    excess = max(0, count - keep)
    departed = _DEPARTED.read_all(await transaction.rows(_OLD_DEPARTED, account_id=account_id, limit=limit))
    old = [row.message_id for number, row in enumerate(departed) if number < excess or row.at_ms < before_ms]
    await transaction.execute(_DROP_DEPARTED, account_id=account_id, ids=json_list(old))
    return len(old)


async def remove_submissions(transaction: Transaction, before_ms: int, limit: int) -> int:
    """Delete up to `limit` submissions that were final before then. Return how many."""
    rows = await transaction.rows(_OLD_SUBMISSIONS, before_ms=before_ms, limit=limit)
    for account_id, id_ in rows:
        await transaction.execute(_DROP_SUBMISSION, of_account=account_id, of_id=id_)
    return len(rows)


async def remove_marks(transaction: Transaction, before_ms: int) -> None:
    """Delete the marks of commits from before then."""
    await transaction.execute(_DROP_MARKS, before=f"{before_ms:013d}")
