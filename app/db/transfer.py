"""Copies all rows between PostgreSQL and an SQLite file with the same schema, the format of a backup."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Table
from sqlmodel import SQLModel

import app.db.tables  # noqa: F401 - fills the metadata
from app.db.ownership import DataInUse
from app.db.postgres import address_of

BATCH_ROWS = 500
_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


async def dump(url: str, path: Path) -> None:
    """Write the rows of a PostgreSQL database, as of one moment, into an SQLite file whose tables are empty."""
    connection = await asyncpg.connect(address_of(url))
    try:
        with closing(sqlite3.connect(path)) as target:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                for table in _tables():
                    await _dump_table(connection, target, table)
            target.commit()
    finally:
        await connection.close()


async def _dump_table(connection: asyncpg.Connection[Any], target: sqlite3.Connection, table: Table) -> None:
    target.execute(f'DELETE FROM "{table.name}"')  # noqa: S608 - names of our schema
    marks = ", ".join("?" * len(table.columns))
    add = f'INSERT INTO "{table.name}" ({_names(table)}) VALUES ({marks})'  # noqa: S608 - likewise
    cursor = await connection.cursor(f'SELECT {_names(table)} FROM "{table.name}"')  # noqa: S608 - likewise
    while rows := await cursor.fetch(BATCH_ROWS):
        target.executemany(add, [tuple(row) for row in rows])


async def load(url: str, path: Path) -> None:
    """Replace all rows of a PostgreSQL database by those of an SQLite file, in one transaction.

    Raises DataInUse if other clients are connected to the database.
    """
    connection = await asyncpg.connect(address_of(url))
    try:
        with closing(sqlite3.connect(path)) as source:
            async with connection.transaction():
                await _refuse_others(connection)
                await connection.execute(
                    f"TRUNCATE {', '.join(f'{chr(34)}{item.name}{chr(34)}' for item in _tables())}"
                )
                for table in _tables():
                    await connection.copy_records_to_table(
                        table.name,
                        columns=[column.name for column in table.columns],
                        records=_rows(source, table),
                        timeout=None,
                    )
    finally:
        await connection.close()


async def refuse_others(url: str) -> None:
    """Raises DataInUse if another client is connected to a PostgreSQL database."""
    connection = await asyncpg.connect(address_of(url))
    try:
        await _refuse_others(connection)
    finally:
        await connection.close()


async def _refuse_others(connection: asyncpg.Connection[Any]) -> None:
    if others := await connection.fetchval(_OTHERS):
        raise DataInUse(f"There are {others} other connections to the database: stop all servers first")


def _tables() -> Sequence[Table]:
    return SQLModel.metadata.sorted_tables


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _rows(source: sqlite3.Connection, table: Table) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a table; SQLite stores a boolean as 0 or 1."""
    booleans = [number for number, column in enumerate(table.columns) if column.type.python_type is bool]
    cursor = source.execute(f'SELECT {_names(table)} FROM "{table.name}"')  # noqa: S608 - names of our schema
    while batch := list(islice(cursor, BATCH_ROWS)):
        for row in batch:
            if not booleans:
                yield row
                continue
            values = list(row)
            for number in booleans:
                values[number] = None if values[number] is None else bool(values[number])
            yield tuple(values)
