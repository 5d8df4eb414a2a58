"""SQLite: one writer thread that commits what waits together, and readers beside it (WAL)."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from app import files
from app.db.session import Row, Statement, Transaction, Work, prepare

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 30
CHECKPOINT_PAGES = 1000
BATCH_LIMIT = 64
SHORT_COMMITS = 256
"""Commits made in the event loop until the writer thread carries the WAL over into the database."""
QUEUE_LIMIT = 10_000
CACHE_KIB = 4096
LONG_CACHE_KIB = 1024
"""Page cache of a connection, in KiB. Scans read through the system's cache, which costs no memory of ours."""
MAPPED_BYTES = 256 * 1024 * 1024
"""How much of the file scans see mapped: half the time of reading it page by page."""
_READER_THREADS = 2


def _connect(path: Path, *, is_reader: bool, cache_kib: int = CACHE_KIB) -> sqlite3.Connection:
    files.touch(path)
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    if is_reader:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _run(connection: sqlite3.Connection, statement: Statement, values: Mapping[str, object]) -> sqlite3.Cursor:
    prepared = prepare(statement, "sqlite")
    return connection.execute(prepared.text, cast("Any", prepared.arguments(values)))


class _SqliteTransaction:
    """A Transaction whose awaits never suspend: the writer thread runs a coroutine over it straight through."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def rows(self, statement: Statement, **values: object) -> Sequence[Row]:
        return _run(self._connection, statement, values).fetchall()

    async def row(self, statement: Statement, **values: object) -> Row | None:
        return cast("Row | None", _run(self._connection, statement, values).fetchone())

    async def execute(self, statement: Statement, **values: object) -> int:
        return _run(self._connection, statement, values).rowcount

    async def execute_many(self, statement: Statement, values: Sequence[Mapping[str, object]]) -> None:
        prepared = prepare(statement, "sqlite")
        self._connection.executemany(prepared.text, [cast("Any", prepared.arguments(one)) for one in values])


@dataclass(slots=True)
class _Job:
    work: Callable[[Transaction], Awaitable[Any]]
    is_durable: bool
    future: asyncio.Future[Any] | None = None
    """Who waits in the event loop; None where nobody does."""
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell the waiting task, in its own loop; it may be gone."""
        if self.future is None or (loop := self.future.get_loop()).is_closed():
            return
        loop.call_soon_threadsafe(self._set, self.future)

    def _set(self, future: asyncio.Future[Any]) -> None:
        if future.done():
            return
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(self.result)


async def _nothing(_: Transaction) -> None:
    """Wakes the writer thread."""


def _straight_through(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    coroutine.close()
    raise RuntimeError("a unit of writing awaits nothing but its transaction")


class SqliteDatabase:
    """A Database in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = _connect(path, is_reader=True)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(QUEUE_LIMIT)
        self._connection = _connect(path, is_reader=False)
        self._turn = threading.Lock()
        """Who holds it uses the connection."""
        self._short_commits = 0
        self._mode = ("", 0)
        self._long_readers = ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="read")
        self._local = threading.local()
        self._writer = threading.Thread(target=self._write_all, name="write", daemon=True)
        self._writer.start()

    async def rows(self, statement: Statement, *, is_long: bool = False, **values: object) -> Sequence[Row]:
        if not is_long:
            return _run(self._reader, statement, values).fetchall()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._long_readers, self._read_long, statement, values)

    async def row(self, statement: Statement, **values: object) -> Row | None:
        cursor = _run(self._reader, statement, values)
        first = cast("Row | None", cursor.fetchone())
        cursor.close()  # an open cursor would hold the reader's snapshot
        return first

    async def write(self, work: Work[T], *, is_durable: bool = True, is_short: bool = False) -> T:
        if is_short and not is_durable and self._jobs.empty() and self._turn.acquire(blocking=False):
            try:
                return self._write_here(work)
            finally:
                self._turn.release()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait(_Job(work, is_durable, future))
        # The commit can't be called back: a caller that is cancelled leaves while its work goes on.
        return await asyncio.shield(future)

    def _write_here(self, work: Work[T]) -> T:
        """Commit in this thread: what takes 0.2 ms and no fsync costs half as much again when two threads hand it over.

        The WAL is left to the writer thread: to carry it over takes fsyncs.
        """
        self._short_commits += 1
        if self._short_commits == SHORT_COMMITS:
            self._jobs.put_nowait(_Job(_nothing, is_durable=False))
        job = _Job(work, is_durable=False)
        self._commit([job], checkpoint_pages=0)
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        self._long_readers.shutdown(wait=True)
        self._reader.close()

    def _read_long(self, statement: Statement, values: Mapping[str, object]) -> Sequence[Row]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self._path, is_reader=True, cache_kib=LONG_CACHE_KIB)
            connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
        return _run(connection, statement, values).fetchall()

    # ---- the writer thread

    def _write_all(self) -> None:
        is_closing = False
        while not is_closing:
            batch, is_closing = self._next_batch()
            if batch:
                with self._turn:
                    self._commit(batch)
                    self._checkpoint()
        self._connection.close()

    def _checkpoint(self) -> None:
        """Carry the WAL over where the commits of the event loop left it; what can't be now is done the next time."""
        if self._short_commits >= SHORT_COMMITS:
            self._short_commits = 0
            with suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _next_batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == BATCH_LIMIT:
                return batch, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Job], *, checkpoint_pages: int = CHECKPOINT_PAGES) -> None:
        connection = self._connection
        try:
            self._prepare("FULL" if any(job.is_durable for job in batch) else "NORMAL", checkpoint_pages)
            connection.execute("BEGIN IMMEDIATE")
            transaction = _SqliteTransaction(connection)
            for job in batch:
                self._attempt(transaction, job, is_alone=len(batch) == 1)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for job in batch:
                job.error = job.error or error
        for job in batch:
            job.settle()

    def _prepare(self, synchronous: str, checkpoint_pages: int) -> None:
        """Set what this commit asks of the connection, where the last one asked for something else."""
        if self._mode != (synchronous, checkpoint_pages):
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}")
            self._mode = synchronous, checkpoint_pages

    def _attempt(self, transaction: Transaction, job: _Job, *, is_alone: bool) -> None:
        """A job among others runs in a savepoint of its own, so that its failure is not theirs."""
        if not is_alone:
            self._connection.execute("SAVEPOINT job")
        try:
            job.result = _straight_through(cast("Coroutine[Any, Any, Any]", job.work(transaction)))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the task that asked, not to this thread
            job.error = error
            self._connection.execute("ROLLBACK" if is_alone else "ROLLBACK TO job")
        if not is_alone:
            self._connection.execute("RELEASE job")
