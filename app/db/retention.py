"""Queries that let go of what is old, a batch at a time, so that no other writer waits long."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, delete, or_, select, update

from app.db.session import Database, Row, Statement, Transaction
from app.db.tables import ACCOUNT, EVENT, SUBMISSION

_ACCOUNTS: Statement = select(ACCOUNT.c.id, ACCOUNT.c.first_seq, ACCOUNT.c.last_seq)
_OLDEST: Statement = (
    select(EVENT.c.seq, EVENT.c.at_ms)
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
    .values(first_seq=bindparam("to_seq"))
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


async def accounts(database: Database) -> list[Row]:
    """(id, first_seq, last_seq) of every account."""
    return list(await database.rows(_ACCOUNTS, is_long=True))


async def oldest_events(database: Database, account_id: str, after_seq: int, limit: int) -> list[Row]:
    """(seq, at_ms) of the oldest events that are kept."""
    return list(await database.rows(_OLDEST, is_long=True, account_id=account_id, after_seq=after_seq, limit=limit))


async def trim_events(transaction: Transaction, account_id: str, to_seq: int) -> None:
    """Let go of an account's events up to `to_seq`, and say so."""
    await transaction.execute(_ADVANCE, account_id=account_id, to_seq=to_seq)
    await transaction.execute(_TRIM, account_id=account_id, to_seq=to_seq)


async def remove_submissions(transaction: Transaction, before_ms: int, limit: int) -> int:
    """Remove up to `limit` submissions that have been over since before then; how many."""
    found = await transaction.rows(_OLD_SUBMISSIONS, before_ms=before_ms, limit=limit)
    for account_id, id_ in found:
        await transaction.execute(_DROP_SUBMISSION, of_account=account_id, of_id=id_)
    return len(found)
