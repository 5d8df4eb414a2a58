"""The directory of accounts: which there are, how they are reached, how fresh they are."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from app.db.session import Database, Row, Statement, Transaction, is_one_of, json_list
from app.db.tables import ACCOUNT

_EXISTING: Statement = select(ACCOUNT.c.id).where(is_one_of(ACCOUNT.c.id, bindparam("ids")))
_SYNC: Statement = select(ACCOUNT.c.sync_status, ACCOUNT.c.sync_mode, ACCOUNT.c.checked_at_ms).where(
    ACCOUNT.c.id == bindparam("account_id")
)


_ALL: Statement = select(ACCOUNT.c.id).order_by(ACCOUNT.c.id)


async def all_ids(reader: Database | Transaction) -> list[str]:
    """Every account, oldest first."""
    return [row[0] for row in await reader.rows(_ALL)]


async def existing(reader: Database | Transaction, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are accounts."""
    return {row[0] for row in await reader.rows(_EXISTING, ids=json_list(list(ids)))}


async def sync_of(reader: Database | Transaction, account_id: str) -> Row | None:
    """(sync_status, sync_mode, checked_at_ms)"""
    return await reader.row(_SYNC, account_id=account_id)
