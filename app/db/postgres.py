"""PostgreSQL on asyncpg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import asyncpg

from app.db.session import Row, Statement, Work, prepare

if TYPE_CHECKING:
    from asyncpg.pool import Pool, PoolConnectionProxy

T = TypeVar("T")

POOL_SIZE = 10
COMMAND_TIMEOUT_SECONDS = 30


class _PostgresTransaction:
    def __init__(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        self._connection = connection

    async def rows(self, statement: Statement, **values: object) -> Sequence[Row]:
        prepared = prepare(statement, "postgresql")
        return cast("list[Row]", await self._connection.fetch(prepared.text, *prepared.arguments(values)))

    async def row(self, statement: Statement, **values: object) -> Row | None:
        prepared = prepare(statement, "postgresql")
        return cast("Row | None", await self._connection.fetchrow(prepared.text, *prepared.arguments(values)))

    async def execute(self, statement: Statement, **values: object) -> int:
        prepared = prepare(statement, "postgresql")
        outcome = await self._connection.execute(prepared.text, *prepared.arguments(values))
        return int(outcome.rpartition(" ")[2] or 0)

    async def execute_many(self, statement: Statement, values: Sequence[Mapping[str, object]]) -> None:
        prepared = prepare(statement, "postgresql")
        await self._connection.executemany(prepared.text, [prepared.arguments(one) for one in values])


def address_of(url: str) -> str:
    """The address in DATABASE_URL as asyncpg takes it."""
    return url.replace("postgresql+asyncpg://", "postgresql://")


class PostgresDatabase:
    """A Database on a PostgreSQL server; `open` it."""

    def __init__(self, pool: Pool[asyncpg.Record]) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str) -> PostgresDatabase:
        """Connect. `dsn` as in DATABASE_URL, with or without "+asyncpg"."""
        pool = await asyncpg.create_pool(
            address_of(dsn),
            min_size=1,
            max_size=POOL_SIZE,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
        )
        return cls(pool)

    async def rows(self, statement: Statement, *, is_long: bool = False, **values: object) -> Sequence[Row]:
        del is_long  # the server has its own threads
        prepared = prepare(statement, "postgresql")
        return cast("list[Row]", await self._pool.fetch(prepared.text, *prepared.arguments(values)))

    async def row(self, statement: Statement, **values: object) -> Row | None:
        prepared = prepare(statement, "postgresql")
        return cast("Row | None", await self._pool.fetchrow(prepared.text, *prepared.arguments(values)))

    async def write(self, work: Work[T], *, is_durable: bool = True, is_short: bool = False) -> T:  # noqa: ARG002 - it never blocks
        async with self._pool.acquire() as connection, connection.transaction():
            if not is_durable:
                await connection.execute("SET LOCAL synchronous_commit = off")
            return await work(_PostgresTransaction(connection))

    async def close(self) -> None:
        await self._pool.close()
