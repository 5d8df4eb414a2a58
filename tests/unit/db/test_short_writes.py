"""Writes of a few rows are committed in the event loop, beside a thread that commits the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.db.session import Transaction
from app.db.sqlite import CHECKPOINT_PAGES, SHORT_COMMITS, SqliteDatabase
from sqlalchemy import Integer, bindparam, column, insert, select, table, text

NUMBERS = table("number", column("value", Integer))
ADD = insert(NUMBERS).values(value=bindparam("value"))
ALL = select(NUMBERS.c.value)
PAGE_BYTES = 4096


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "numbers.sqlite3")

    async def create(transaction: Transaction) -> None:
        await transaction.execute(text("CREATE TABLE number (value INTEGER UNIQUE, filler TEXT)"))

    await database.write(create)
    yield database
    await database.close()


async def _add(database: SqliteDatabase, value: int, *, is_short: bool) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.execute(ADD, value=value)

    await database.write(work, is_durable=False, is_short=is_short)


async def _values(database: SqliteDatabase) -> list[int]:
    return sorted(row[0] for row in await database.rows(ALL))


async def test_short_and_other_writes_side_by_side_are_all_kept(database: SqliteDatabase) -> None:
    await asyncio.gather(*(_add(database, value, is_short=value % 2 == 0) for value in range(500)))

    assert await _values(database) == list(range(500))


async def test_a_short_write_that_fails_leaves_nothing_and_hinders_none_after_it(database: SqliteDatabase) -> None:
    async def fail(transaction: Transaction) -> None:
        await transaction.execute(ADD, value=1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(fail, is_durable=False, is_short=True)
    await _add(database, 2, is_short=True)

    assert await _values(database) == [2]


async def test_a_short_write_is_read_back_at_once(database: SqliteDatabase) -> None:
    for value in range(20):
        await _add(database, value, is_short=True)
        assert value in await _values(database)


async def test_short_writes_alone_do_not_let_the_wal_grow_without_end(database: SqliteDatabase, tmp_path: Path) -> None:
    for value in range(SHORT_COMMITS * 8):
        await _add(database, value, is_short=True)
        await asyncio.sleep(0)

    assert (tmp_path / "numbers.sqlite3-wal").stat().st_size < 2 * CHECKPOINT_PAGES * PAGE_BYTES
