"""PostgreSQL on asyncpg: a pool for reads, one for writes, and transactions that survive a lost connection."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from weakref import WeakValueDictionary

import asyncpg

from app.db import failures
from app.db.session import Row, Statement, Work, prepare, run_actions
from app.errors import DatabaseUnavailable
from app.mail.identifiers import now_ms

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import Pool, PoolConnectionProxy

T = TypeVar("T")

READ_CONNECTIONS = 10
WRITE_CONNECTIONS = 10
ACQUIRE_SECONDS = 5
"""How long a caller waits for a connection."""
COMMAND_TIMEOUT_SECONDS = 20
LONG_COMMAND_TIMEOUT_SECONDS = 60
"""For reads that scan."""
LOCK_TIMEOUT_MS = 10_000
"""How long a statement waits for the lock of another transaction, for example in another process."""
IDLE_TIMEOUT_MS = 60_000
"""After this, the server ends an idle transaction: its process has stopped, and holds locks."""
TURN_SECONDS = 30
ATTEMPTS = 5
"""The most attempts of a write that PostgreSQL rolls back in favour of another, or whose connection is lost."""
BACKOFF_SECONDS = 0.02
"""The delay before the second attempt, at random up to twice this; doubled before each further one."""
RESOLVE_SECONDS = 60
"""How long the result of an unanswered commit is looked for."""
RESOLVE_PAUSE_SECONDS = 0.5
CLOSE_SECONDS = 5

DRIVER_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Errors that asyncpg raises; TimeoutError is an OSError."""

_BEGIN_MARKED = "BEGIN; INSERT INTO commit_mark (id) VALUES "
_BEGIN_QUICK = "BEGIN; SET LOCAL synchronous_commit = off"
_TAKE_MARK = "INSERT INTO commit_mark (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id"


class _PostgresTransaction:
    def __init__(self, connection: PoolConnectionProxy[Record]) -> None:
        self._connection = connection
        self.actions: list[Callable[[], None]] = []
        """Actions to run after the commit."""

    async def rows(self, statement: Statement, **values: object) -> Sequence[Row]:
        prepared = prepare(statement, "postgresql")
        return cast("list[Row]", await self._connection.fetch(prepared.text, *prepared.arguments(values)))

    async def row(self, statement: Statement, **values: object) -> Row | None:
        prepared = prepare(statement, "postgresql")
        return cast("Row | None", await self._connection.fetchrow(prepared.text, *prepared.arguments(values)))

    async def execute(self, statement: Statement, **values: object) -> int:
        prepared = prepare(statement, "postgresql")
        outcome = await self._connection.execute(prepared.text, *prepared.arguments(values))
        count = outcome.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, statement: Statement, values: Sequence[Mapping[str, object]]) -> None:
        prepared = prepare(statement, "postgresql")
        await self._connection.executemany(prepared.text, [prepared.arguments(row) for row in values])

    def after_commit(self, action: Callable[[], None]) -> None:
        self.actions.append(action)


@dataclass(frozen=True, slots=True)
class _Written(Generic[T]):
    """The result of a transaction's work, and the actions to run after its commit."""

    result: T
    actions: Sequence[Callable[[], None]]


class _CommitLost(Exception):
    """The connection was lost after COMMIT was sent: whether the transaction is committed is unknown.

    `mark` is its row of `commit_mark`, which exists if it is committed; "" for a write that was not durable.
    """

    def __init__(self, mark: str, written: _Written[Any]) -> None:
        super().__init__(mark)
        self.mark = mark
        self.written = written


def address_of(url: str) -> str:
    """Return the address in DATABASE_URL in asyncpg's format."""
    return url.replace("postgresql+asyncpg://", "postgresql://")


class PostgresDatabase:
    """A Database on a PostgreSQL server; create it by `open`."""

    def __init__(self, readers: Pool[Record], writers: Pool[Record]) -> None:
        self.failure_count = 0
        self._readers = readers
        self._writers = writers
        self._turns = _Turns()
        self._writes: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, dsn: str) -> PostgresDatabase:
        """Connect. `dsn` as in DATABASE_URL, with or without "+asyncpg"."""
        dsn = address_of(dsn)
        return cls(await _open_pool(dsn, READ_CONNECTIONS), await _open_pool(dsn, WRITE_CONNECTIONS))

    async def rows(self, statement: Statement, *, is_long: bool = False, **values: object) -> Sequence[Row]:
        prepared = prepare(statement, "postgresql")
        seconds = LONG_COMMAND_TIMEOUT_SECONDS if is_long else COMMAND_TIMEOUT_SECONDS
        return await self._read(prepared.text, prepared.arguments(values), seconds)

    async def row(self, statement: Statement, **values: object) -> Row | None:
        prepared = prepare(statement, "postgresql")
        rows = await self._read(prepared.text, prepared.arguments(values), COMMAND_TIMEOUT_SECONDS)
        return rows[0] if rows else None

    async def _read(self, text: str, arguments: Sequence[object], seconds: float) -> list[Row]:
        """Read; retry once if the connection is stale because the server was restarted since its last use."""
        is_second = False
        while True:
            try:
                async with _connection_of(self._readers) as connection:
                    return cast("list[Row]", await connection.fetch(text, *arguments, timeout=seconds))
            except DRIVER_ERRORS as error:
                if is_second or not failures.is_stale(error):
                    raise self._failure(error) from None
                is_second = True

    def _failure(self, error: BaseException) -> BaseException:
        """Return the error that callers see; failures of the database itself are counted."""
        unavailable = failures.of_postgres(error)
        if unavailable is None:
            return error
        self.failure_count += 1
        return unavailable

    async def write(
        self,
        work: Work[T],
        *,
        is_durable: bool = True,
        is_short: bool = False,  # noqa: ARG002 - no write holds up the event loop
        turn: str | None = None,
    ) -> T:
        task = asyncio.get_running_loop().create_task(self._write(work, is_durable, turn))
        self._writes.add(task)
        task.add_done_callback(self._write_ended)
        # as on SQLite: if the caller is cancelled, its work continues
        return await asyncio.shield(task)

    def _write_ended(self, task: asyncio.Task[Any]) -> None:
        """Remove a finished task and retrieve its error, which a cancelled caller does not."""
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()

    async def _write(self, work: Work[T], is_durable: bool, turn: str | None) -> T:
        async with self._turns.taken(turn):
            written = await self._committed(work, is_durable)
        run_actions(written.actions)
        return written.result

    async def _committed(self, work: Work[T], is_durable: bool) -> _Written[T]:
        """Run and commit the transaction; retry if PostgreSQL rolled it back through no fault of its own."""
        attempt = 1
        while True:
            try:
                return await self._attempt(work, is_durable)
            except _CommitLost as lost:
                if await self._is_committed(lost.mark):
                    return lost.written
            except DRIVER_ERRORS as error:
                may_repeat = failures.is_conflict(error) or (attempt == 1 and failures.is_stale(error))
                if attempt == ATTEMPTS or not may_repeat:
                    raise self._failure(error) from None
            await asyncio.sleep(random.uniform(0, BACKOFF_SECONDS * 2**attempt))  # noqa: S311 - no secret
            attempt += 1

    async def _attempt(self, work: Work[T], is_durable: bool) -> _Written[T]:
        mark = f"{now_ms():013d}-{secrets.token_hex(8)}" if is_durable else ""
        async with _connection_of(self._writers) as connection:
            await connection.execute(f"{_BEGIN_MARKED}('{mark}')" if mark else _BEGIN_QUICK)
            transaction = _PostgresTransaction(connection)
            try:
                result = await work(transaction)
            except BaseException as error:
                if not failures.is_lost(error):
                    await connection.execute("ROLLBACK")
                raise
            written = _Written(result, transaction.actions)
            try:
                await connection.execute("COMMIT")
            except DRIVER_ERRORS as error:
                if failures.is_lost(error):
                    raise _CommitLost(mark, written) from error
                raise
            return written

    async def _is_committed(self, mark: str) -> bool:
        """Whether a transaction whose COMMIT was not answered is committed. Raises DatabaseUnavailable if unknown.

        Its mark is inserted again. That waits for the lost transaction to end, fails if it is committed, and succeeds
        if it is not.
        """
        deadline = asyncio.get_running_loop().time() + RESOLVE_SECONDS
        while mark and asyncio.get_running_loop().time() < deadline:
            try:
                async with _connection_of(self._writers) as connection:
                    return await connection.fetchval(_TAKE_MARK, mark) is None
            except DRIVER_ERRORS as error:
                if failures.of_postgres(error) is None:
                    raise
                await asyncio.sleep(random.uniform(0.5, 1.5) * RESOLVE_PAUSE_SECONDS)  # noqa: S311 - no secret
        self.failure_count += 1
        raise DatabaseUnavailable("The connection to the database was lost during a commit")

    async def close(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes, timeout=CLOSE_SECONDS)
        for pool in (self._readers, self._writers):
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await pool.close()
            except TimeoutError:
                pool.terminate()


async def _open_pool(dsn: str, size: int) -> Pool[Record]:
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        timeout=ACQUIRE_SECONDS,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        server_settings={
            "lock_timeout": str(LOCK_TIMEOUT_MS),
            "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MS),
        },
    )


@asynccontextmanager
async def _connection_of(pool: Pool[Record]) -> AsyncIterator[PoolConnectionProxy[Record]]:
    """Acquire a connection. If it is lost, or did not answer in time, it does not return to the pool."""
    connection = await pool.acquire(timeout=ACQUIRE_SECONDS)
    try:
        yield connection
    except BaseException as error:
        if failures.is_stale(error):
            await pool.expire_connections()  # the others are lost too, but may not show it yet
        if failures.is_lost(error) or isinstance(error, _CommitLost):
            with suppress(asyncpg.InterfaceError):  # it is known to be closed
                connection.terminate()
        raise
    finally:
        await pool.release(connection)


class _Turns:
    """Writes under the same key run one after another, so that waiting writes of an account hold no connection."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def taken(self, key: str | None) -> AsyncIterator[None]:
        """Raises DatabaseUnavailable if the turn does not come in time."""
        if key is None:
            yield
            return
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await lock.acquire()
        except TimeoutError:
            raise DatabaseUnavailable("Too many writes of this account are waiting") from None
        try:
            yield
        finally:
            lock.release()
