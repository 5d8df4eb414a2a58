"""Checks whether a database can be read and written."""

from __future__ import annotations

import secrets

from sqlalchemy import bindparam, delete, insert

from app.db.session import Database, Statement, Transaction
from app.db.tables import COMMIT_MARK

_ADD: Statement = insert(COMMIT_MARK).values(id=bindparam("mark"))
_REMOVE: Statement = delete(COMMIT_MARK).where(COMMIT_MARK.c.id == bindparam("mark"))


async def probe(database: Database) -> None:
    """Write a row and remove it, which also detects a full or read-only disk.

    Raises DatabaseUnavailable, StorageFull.
    """
    mark = f"probe-{secrets.token_hex(8)}"

    async def work(transaction: Transaction) -> None:
        await transaction.execute(_ADD, mark=mark)
        await transaction.execute(_REMOVE, mark=mark)

    await database.write(work, is_durable=False, is_short=True)
