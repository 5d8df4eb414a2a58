"""How much an account holds, as far as the index knows its mail."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select

from app.db.session import Database, Statement
from app.db.tables import MESSAGE
from app.mail.types import AccountId

_USAGE: Statement = select(func.count(), func.coalesce(func.sum(MESSAGE.c.size_bytes), 0)).where(
    MESSAGE.c.account_id == bindparam("account_id")
)


async def usage_of(database: Database, account_id: AccountId) -> tuple[int, int]:
    """Messages and bytes."""
    row = await database.row(_USAGE, account_id=account_id)
    assert row is not None
    return int(row[0]), int(row[1])
