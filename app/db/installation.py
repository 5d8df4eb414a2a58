"""Queries on the installation's own row, and on the master keys of its encrypted values."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select, union, update

from app.db.session import Database, Statement, Transaction, insert_or
from app.db.tables import ACCOUNT, INSTALLATION, OAUTH_APP, OAUTH_GRANT

ID = 1
_ROW = INSTALLATION.c.id == ID
_READ: Statement = select(
    INSTALLATION.c.epoch, INSTALLATION.c.tick, INSTALLATION.c.restored_at_ms, INSTALLATION.c.key_id
).where(_ROW)
_ACCOUNT: Statement = select(ACCOUNT.c.id).limit(1)
_ADD: Statement = insert_or(INSTALLATION).on_conflict_do_nothing()
_TICK: Statement = (
    update(INSTALLATION)
    .where(_ROW)
    .values(tick=INSTALLATION.c.tick + 1)
    .returning(INSTALLATION.c.epoch, INSTALLATION.c.tick)
)
_SET_KEY: Statement = update(INSTALLATION).where(_ROW).values(key_id=bindparam("new_key_id"))
_SEALED_COLUMNS = (ACCOUNT.c.secrets, OAUTH_APP.c.secret, OAUTH_GRANT.c.secrets)
_SEALING_KEYS = union(*(select(func.substr(column, 2, 4)).where(column.is_not(None)) for column in _SEALED_COLUMNS))
"""The ids of master keys: see `security.vault` for the format of an encrypted value."""


@dataclass(frozen=True, slots=True)
class Installation:
    epoch: str
    tick: int
    restored_at_ms: int
    key_id: str


async def read(source: Database | Transaction) -> Installation | None:
    """Return None before the first start is complete."""
    row = await source.row(_READ)
    return None if row is None else Installation(*row)


async def has_accounts(database: Database) -> bool:
    return await database.row(_ACCOUNT) is not None


async def add(transaction: Transaction, epoch: str) -> None:
    """Create the row, unless another process has."""
    await transaction.execute(_ADD, id=ID, epoch=epoch, tick=0, restored_at_ms=0, key_id="")


async def tick(transaction: Transaction) -> tuple[str, int]:
    """Increase the count. Return the epoch and the new count."""
    row = await transaction.row(_TICK)
    assert row is not None
    epoch, count = row
    return str(epoch), int(count)


async def set_key(transaction: Transaction, key_id: str) -> None:
    await transaction.execute(_SET_KEY, new_key_id=key_id)


async def sealing_keys(database: Database) -> set[bytes]:
    """Return the ids of the master keys that stored secrets are encrypted with."""
    return {bytes(key_id) for (key_id,) in await database.rows(_SEALING_KEYS, is_long=True)}


def sealing_keys_on(connection: Connection) -> set[bytes]:
    """Like `sealing_keys`, on an SQLAlchemy connection."""
    return {bytes(id_) for id_ in connection.execute(_SEALING_KEYS).scalars()}
