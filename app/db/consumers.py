"""Queries on consumers: the last event that each has acknowledged."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from app.db.session import Database, Statement, Transaction, insert_or, value_of
from app.db.tables import CONSUMER

_INSERT = insert_or(CONSUMER)
_SET: Statement = _INSERT.on_conflict_do_update(
    index_elements=["account_id", "owner", "name"], set_={"seq": _INSERT.excluded.seq}
)
_GET: Statement = select(CONSUMER.c.seq).where(
    CONSUMER.c.account_id == bindparam("account_id"),
    CONSUMER.c.owner == bindparam("owner"),
    CONSUMER.c.name == bindparam("name"),
)


async def acknowledge(database: Database, account_id: str, owner: str, name: str, seq: int) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.execute(_SET, account_id=account_id, owner=owner, name=name, seq=seq)

    await database.write(work, is_durable=False)


async def acknowledged(database: Database, account_id: str, owner: str, name: str) -> int | None:
    seq: int | None = value_of(await database.row(_GET, account_id=account_id, owner=owner, name=name))
    return seq
