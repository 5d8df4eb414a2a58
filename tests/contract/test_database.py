"""What every database promises of a write: once, whole, to its end, and what follows it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.db import postgres as postgres_module
from app.db.migrate import open_database
from app.db.postgres import PostgresDatabase
from app.db.session import Database, Row, Statement, Transaction
from app.db.sqlite import SqliteDatabase
from app.errors import DatabaseUnavailable, StorageFull
from app.settings import Settings
from sqlalchemy import Integer, bindparam, column, insert, select, table, text, update

from tests.servers.commit_proxy import CommitProxy
from tests.servers.postgres import Postgres

NUMBERS = table("number", column("id", Integer), column("value", Integer))
ADD: Statement = insert(NUMBERS).values(id=bindparam("new_id"), value=0)
RAISE: Statement = update(NUMBERS).where(NUMBERS.c.id == bindparam("row_id")).values(value=NUMBERS.c.value + 1)
LOCK: Statement = select(NUMBERS.c.value).where(NUMBERS.c.id == bindparam("row_id")).with_for_update()
ALL: Statement = select(NUMBERS.c.id, NUMBERS.c.value).order_by(NUMBERS.c.id)


async def _create(transaction: Transaction) -> None:
    await transaction.execute(text("CREATE TABLE number (id INTEGER PRIMARY KEY, value INTEGER, filler TEXT)"))


@pytest.fixture
async def database(database_url: str | None, tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(Settings(data_dir=tmp_path, database_url=database_url))
    await database.write(_create)
    yield database
    await database.close()


@pytest.fixture
async def on_postgres(postgres_url: str, tmp_path: Path) -> AsyncIterator[PostgresDatabase]:
    database = await open_database(Settings(data_dir=tmp_path, database_url=postgres_url))
    assert isinstance(database, PostgresDatabase)
    await database.write(_create)
    yield database
    await database.close()


async def _add(database: Database, id_: int, *, is_durable: bool = True) -> None:
    await database.write(lambda transaction: transaction.execute(ADD, new_id=id_), is_durable=is_durable)


async def _ids(database: Database) -> list[int]:
    return [row[0] for row in await database.rows(ALL)]


def _fail() -> None:
    raise RuntimeError("no")


# ---- what follows a commit


async def test_what_follows_a_commit_happens_when_its_caller_was_cancelled(database: Database) -> None:
    happened = asyncio.Event()

    async def work(transaction: Transaction) -> None:
        await transaction.execute(ADD, new_id=1)
        transaction.after_commit(happened.set)

    caller = asyncio.create_task(database.write(work))
    await asyncio.sleep(0)
    caller.cancel()

    await asyncio.wait_for(happened.wait(), 20)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await _ids(database) == [1]


@pytest.mark.parametrize("is_short", [False, True])
async def test_what_follows_a_commit_has_happened_when_the_write_returns(database: Database, is_short: bool) -> None:
    happened: list[int] = []

    async def work(transaction: Transaction) -> None:
        await transaction.execute(ADD, new_id=1)
        transaction.after_commit(lambda: happened.append(1))

    await database.write(work, is_durable=False, is_short=is_short)
    assert happened == [1]


async def test_nothing_follows_a_transaction_that_was_rolled_back(database: Database) -> None:
    happened: list[int] = []

    async def work(transaction: Transaction) -> None:
        transaction.after_commit(lambda: happened.append(1))
        await transaction.execute(ADD, new_id=1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.write(work)
    assert (happened, await _ids(database)) == ([], [])


async def test_an_action_that_fails_keeps_no_other_from_happening(database: Database) -> None:
    happened: list[int] = []

    async def work(transaction: Transaction) -> None:
        await transaction.execute(ADD, new_id=1)
        transaction.after_commit(_fail)
        transaction.after_commit(lambda: happened.append(1))

    await database.write(work)
    assert (happened, await _ids(database)) == ([1], [1])


# ---- one write's trouble is its own


async def test_a_write_that_fails_takes_no_other_of_the_same_moment_along(database: Database) -> None:
    await _add(database, 2)
    outcomes = await asyncio.gather(*(_add(database, id_) for id_ in (1, 2, 3)), return_exceptions=True)
    assert [isinstance(one, Exception) for one in outcomes] == [False, True, False]
    assert await _ids(database) == [1, 2, 3]


async def test_writes_that_wait_for_one_account_leave_connections_to_others(
    on_postgres: PostgresDatabase,
) -> None:
    await _add(on_postgres, 1)
    may_end = asyncio.Event()

    async def slow(transaction: Transaction) -> None:
        await transaction.execute(RAISE, row_id=1)
        await may_end.wait()

    waiting = [asyncio.create_task(on_postgres.write(slow, turn="acc_1")) for _ in range(30)]
    await asyncio.sleep(0.1)
    await asyncio.wait_for(on_postgres.write(lambda t: t.execute(ADD, new_id=2), turn="acc_2"), 10)
    assert await asyncio.wait_for(_ids(on_postgres), 10) == [1, 2]

    may_end.set()
    await asyncio.gather(*waiting)
    assert [tuple(row) for row in await on_postgres.rows(ALL)] == [(1, 30), (2, 0)]


async def test_of_two_transactions_that_wait_for_each_other_both_succeed(on_postgres: PostgresDatabase) -> None:
    await _add(on_postgres, 1)
    await _add(on_postgres, 2)
    both_began = asyncio.Barrier(2)
    attempts = 0

    async def raise_both(transaction: Transaction, first: int, second: int) -> None:
        nonlocal attempts
        attempts += 1
        await transaction.execute(RAISE, row_id=first)
        if attempts <= 2:
            await both_began.wait()
        await transaction.execute(RAISE, row_id=second)

    await asyncio.gather(
        on_postgres.write(lambda t: raise_both(t, 1, 2)), on_postgres.write(lambda t: raise_both(t, 2, 1))
    )
    assert attempts == 3
    assert [tuple(row) for row in await on_postgres.rows(ALL)] == [(1, 2), (2, 2)]


# ---- a commit without an answer


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_write_whose_commit_was_not_answered_is_done_once(
    postgres_url: str, tmp_path: Path, is_committed: bool
) -> None:
    async with CommitProxy(postgres_url) as proxy:
        database = await open_database(Settings(data_dir=tmp_path, database_url=proxy.url))
        await database.write(_create)
        happened: list[int] = []

        async def work(transaction: Transaction) -> str:
            await transaction.execute(ADD, new_id=1)
            transaction.after_commit(lambda: happened.append(1))
            return "done"

        proxy.cut_next_commit(after_server_has_it=is_committed)
        assert await database.write(work) == "done"

        assert proxy.cuts == 1
        assert await _ids(database) == [1]
        assert happened == [1]
        await database.close()


# ---- a database that is away


async def test_a_database_that_is_away_is_a_retryable_error_and_heals_by_itself(
    postgres: Postgres, on_postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "RESOLVE_SECONDS", 0.5)
    await _add(on_postgres, 1)
    postgres.stop()
    try:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await _ids(on_postgres)
            with pytest.raises(DatabaseUnavailable):
                await _add(on_postgres, 2)
    finally:
        postgres.start()
    await _add(on_postgres, 3)
    assert await _ids(on_postgres) == [1, 3]


async def test_a_restart_of_the_database_between_two_calls_is_not_noticed(
    postgres: Postgres, on_postgres: PostgresDatabase
) -> None:
    await asyncio.gather(*(_add(on_postgres, id_) for id_ in range(5)))
    postgres.stop()
    postgres.start()
    assert await _ids(on_postgres) == [0, 1, 2, 3, 4]
    await _add(on_postgres, 5)
    assert await _ids(on_postgres) == [0, 1, 2, 3, 4, 5]


# ---- SQLite: the disk, and other processes


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "numbers.sqlite3")
    await database.write(_create)
    yield database
    await database.close()


async def _limit_pages(database: Database, pages: int) -> None:
    async def work(transaction: Transaction) -> Row | None:
        return await transaction.row(text(f"PRAGMA max_page_count = {pages}"))

    await database.write(work)


@pytest.mark.parametrize("is_short", [False, True])
async def test_a_full_disk_is_an_error_of_each_write_until_there_is_room(
    on_sqlite: SqliteDatabase, is_short: bool
) -> None:
    await _limit_pages(on_sqlite, 2)

    async def work(transaction: Transaction) -> None:
        await transaction.execute(text("INSERT INTO number VALUES (NULL, 0, hex(randomblob(20000)))"))

    outcomes = await asyncio.gather(
        *(on_sqlite.write(work, is_durable=not is_short, is_short=is_short) for _ in range(3)), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [StorageFull] * 3
    assert await _ids(on_sqlite) == []

    await _limit_pages(on_sqlite, 1_000_000)
    await on_sqlite.write(work)
    assert await _ids(on_sqlite) == [1]


async def test_a_short_write_waits_for_another_process_in_the_writer_thread(
    on_sqlite: SqliteDatabase, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "numbers.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.create_task(on_sqlite.write(lambda t: t.execute(ADD, new_id=1), is_durable=False, is_short=True))
    await asyncio.sleep(0)  # the write begins, finds the lock taken and hands its work to the thread
    assert not write.done()

    other.execute("COMMIT")
    other.close()
    await write
    assert await _ids(on_sqlite) == [1]
