"""Queries on leases: who holds an account, under which epoch, until when."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from app.db.session import Row, Statement, Transaction, insert_or, is_one_of, json_list
from app.db.tables import LEASE

_OFFER: Statement = insert_or(LEASE).on_conflict_do_nothing()
_FREE = (
    select(LEASE.c.account_id)
    .where(is_one_of(LEASE.c.account_id, bindparam("ids")), LEASE.c.expires_at_ms < bindparam("before_ms"))
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_TAKE: Statement = (
    update(LEASE)
    .where(LEASE.c.account_id.in_(_FREE))
    .values(worker=bindparam("by_worker"), epoch=LEASE.c.epoch + 1, expires_at_ms=bindparam("until_ms"))
    .returning(LEASE.c.account_id, LEASE.c.epoch)
)
_RENEW: Statement = (
    update(LEASE)
    .where(LEASE.c.worker == bindparam("by_worker"), LEASE.c.expires_at_ms >= bindparam("now_ms"))
    .values(expires_at_ms=bindparam("until_ms"))
    .returning(LEASE.c.account_id, LEASE.c.epoch)
)
_RELEASE: Statement = (
    update(LEASE)
    .where(LEASE.c.worker == bindparam("by_worker"), is_one_of(LEASE.c.account_id, bindparam("ids")))
    .values(expires_at_ms=0)
)


async def take(
    transaction: Transaction, ids: Sequence[str], worker: str, *, before_ms: int, until_ms: int, limit: int
) -> Sequence[Row]:
    """Take up to `limit` of these accounts whose lease ended before `before_ms`, or who have none: (id, epoch).

    Rows that another worker is taking right now are passed over (PostgreSQL; SQLite has one writer).
    """
    fresh = [{"account_id": id_, "worker": "", "epoch": 0, "expires_at_ms": 0} for id_ in ids]
    await transaction.execute_many(_OFFER, fresh)
    return await transaction.rows(
        _TAKE, ids=json_list(list(ids)), before_ms=before_ms, limit=limit, by_worker=worker, until_ms=until_ms
    )


async def renew(transaction: Transaction, worker: str, *, now_ms: int, until_ms: int) -> Sequence[Row]:
    """Hold for longer what the worker still holds: (id, epoch) of each."""
    return await transaction.rows(_RENEW, by_worker=worker, now_ms=now_ms, until_ms=until_ms)


async def release(transaction: Transaction, ids: Sequence[str], worker: str) -> None:
    """Give accounts back, so that another worker need not wait for their leases to end."""
    await transaction.execute(_RELEASE, by_worker=worker, ids=json_list(list(ids)))
