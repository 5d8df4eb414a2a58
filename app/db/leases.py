"""Queries on leases of accounts: their holder, epoch and end. See `app.db.claims`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, not_, select, update

from app.db.claims import LEASE_END, is_free
from app.db.session import Database, Statement, Transaction, insert_or, is_one_of, json_list
from app.db.tables import LEASE

_OFFER: Statement = insert_or(LEASE).on_conflict_do_nothing()
_FREE = (
    select(LEASE.c.account_id)
    .where(is_one_of(LEASE.c.account_id, bindparam("ids")), is_free(LEASE.c.expires_at_ms))
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_TAKE: Statement = (
    update(LEASE)
    .where(LEASE.c.account_id.in_(_FREE))
    .values(worker=bindparam("by_worker"), epoch=LEASE.c.epoch + 1, expires_at_ms=LEASE_END)
    .returning(LEASE.c.account_id, LEASE.c.epoch)
)
_TAKEN: Statement = select(LEASE.c.account_id).where(not_(is_free(LEASE.c.expires_at_ms)))
_HELD: Statement = select(LEASE.c.account_id, LEASE.c.epoch).where(LEASE.c.worker == bindparam("by_worker"))
_RENEW: Statement = (
    update(LEASE)
    .where(LEASE.c.worker == bindparam("by_worker"))
    .values(expires_at_ms=LEASE_END)
    .returning(LEASE.c.account_id, LEASE.c.epoch)
)
_RELEASE: Statement = (
    update(LEASE)
    .where(LEASE.c.worker == bindparam("by_worker"), is_one_of(LEASE.c.account_id, bindparam("ids")))
    .values(worker="", expires_at_ms=0)
)


async def take(
    transaction: Transaction, ids: Sequence[str], worker: str, *, slack_ms: int, limit: int
) -> dict[str, int]:
    """Take up to `limit` of these accounts that have no lease, or an expired one. Return id → epoch.

    Rows that another worker is taking right now are skipped (PostgreSQL; SQLite has one writer).
    """
    fresh = [{"account_id": id_, "worker": "", "epoch": 0, "expires_at_ms": 0} for id_ in ids]
    await transaction.execute_many(_OFFER, fresh)
    values = {"ids": json_list(list(ids)), "slack_ms": slack_ms, "limit": limit, "by_worker": worker}
    return dict(await transaction.rows(_TAKE, **values))


async def taken(database: Database, slack_ms: int) -> set[str]:
    """Return the accounts whose leases have not ended."""
    return {account_id for (account_id,) in await database.rows(_TAKEN, slack_ms=slack_ms)}


async def held(database: Database, worker: str) -> dict[str, int]:
    """Return the accounts that the worker holds: id → epoch."""
    return dict(await database.rows(_HELD, by_worker=worker))


async def renew(transaction: Transaction, worker: str) -> dict[str, int]:
    """Extend the leases that the worker still holds. Return id → epoch."""
    return dict(await transaction.rows(_RENEW, by_worker=worker))


async def release(transaction: Transaction, ids: Sequence[str], worker: str) -> None:
    """Release accounts, so that another worker need not wait for their leases to end."""
    await transaction.execute(_RELEASE, by_worker=worker, ids=json_list(list(ids)))
