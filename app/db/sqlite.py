"""SQLite: one writer thread that commits waiting writes together, and concurrent readers (WAL)."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from app import files
from app.db import failures
from app.db.session import Row, Statement, Transaction, Work
from app.db.sqlite_jobs import Job, SqliteTransaction, run_statement, straight_through
from app.errors import DatabaseUnavailable
from app.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 30
"""How long the writer thread waits for another process that writes."""
READ_TIMEOUT_SECONDS = 1
"""How long a read in the event loop waits for another process: readers of a WAL wait only while it is recovered."""
WRITE_TIMEOUT_SECONDS = 60
"""How long a caller waits for its commit. The commit itself is not cancelled."""
CHECKPOINT_PAGES = 1000
BATCH_LIMIT = 64
SHORT_COMMITS = 256
"""Commits in the event loop until the writer thread checkpoints the WAL."""
QUEUE_LIMIT = 10_000
CACHE_KIB = 4096
LONG_CACHE_KIB = 1024
"""Page cache of a connection, in KiB. Scans read through the system's cache, which uses no memory of the process."""
MAPPED_BYTES = 256 * 1024 * 1024
"""How much of the file is memory-mapped for scans: this halves the time of reading it page by page."""
_READER_THREADS = 2


def _connect(
    path: Path, *, is_reader: bool, cache_kib: int = CACHE_KIB, busy_seconds: int = BUSY_TIMEOUT_SECONDS
) -> sqlite3.Connection:
    files.touch(path)
    connection = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    if is_reader:
        connection.execute("PRAGMA query_only = ON")
    return connection


class _Mode(NamedTuple):
    """The settings of a transaction, which are applied to the connection before it."""

    synchronous: str
    checkpoint_pages: int
    busy_seconds: int


async def _nothing(_: Transaction) -> None:
    """Wakes the writer thread."""


class SqliteDatabase:
    """A Database in one file."""

    def __init__(self, path: Path) -> None:
        self.failure_count = 0
        self._path = path
        self._reader = _connect(path, is_reader=True, busy_seconds=READ_TIMEOUT_SECONDS)
        self._jobs: queue.Queue[Job | None] = queue.Queue(QUEUE_LIMIT)
        self._connection = _connect(path, is_reader=False)
        self._turn = threading.Lock()
        """The holder of this lock uses the connection."""
        self._short_commits = 0
        self._mode: _Mode | None = None
        self._long_readers = ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="read")
        self._local = threading.local()
        self._long_connections: list[sqlite3.Connection] = []
        self._writer = threading.Thread(target=self._write_all, name="write", daemon=True)
        self._writer.start()

    async def rows(self, statement: Statement, *, is_long: bool = False, **values: object) -> Sequence[Row]:
        if not is_long:
            return self._read(self._reader, statement, values)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._long_readers, self._read_long, statement, values)

    async def row(self, statement: Statement, **values: object) -> Row | None:
        try:
            cursor = run_statement(self._reader, statement, values)
            first = cast("Row | None", cursor.fetchone())
            cursor.close()  # an open cursor would hold the reader's snapshot
        except sqlite3.Error as error:
            raise self._failure(error) from None
        return first

    def _read(self, connection: sqlite3.Connection, statement: Statement, values: Mapping[str, object]) -> list[Row]:
        try:
            return run_statement(connection, statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: BaseException) -> BaseException:
        """Return the error that callers see; failures of the database itself are counted."""
        unavailable = failures.of_sqlite(error)
        if unavailable is None:
            return error
        self.failure_count += 1
        return unavailable

    async def write(
        self,
        work: Work[T],
        *,
        is_durable: bool = True,
        is_short: bool = False,
        turn: str | None = None,  # noqa: ARG002 - there is one writer: all writes wait for their turn
    ) -> T:
        if is_short and not is_durable and self._jobs.empty() and self._turn.acquire(blocking=False):
            try:
                job = self._write_here(work)
            finally:
                self._turn.release()
            if job is not None:
                job.conclude()
                return cast("T", job.outcome())
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            self._jobs.put_nowait(Job(work, is_durable, future))
        except queue.Full:
            raise DatabaseUnavailable("Too many writes are waiting") from None
        # The commit cannot be cancelled: if the caller is cancelled, its work continues.
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                return await asyncio.shield(future)
        except TimeoutError:
            raise DatabaseUnavailable("The disk did not confirm in time") from None

    def _write_here(self, work: Work[T]) -> Job | None:
        """Commit in the event loop's thread: a second thread would make a short write half as long again.

        Returns None if another process is writing: the writer thread can wait for it, the event loop cannot.
        Checkpointing the WAL is left to the writer thread, because it needs fsyncs.
        """
        self._short_commits += 1
        if self._short_commits == SHORT_COMMITS:
            self._jobs.put_nowait(Job(_nothing, is_durable=False))
        job = Job(work, is_durable=False)
        try:
            self._begin(_Mode("NORMAL", checkpoint_pages=0, busy_seconds=0))
        except sqlite3.OperationalError:
            return None
        self._commit([job])
        return job

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        self._long_readers.shutdown(wait=True)
        for connection in (self._reader, *self._long_connections):
            connection.close()

    def _read_long(self, statement: Statement, values: Mapping[str, object]) -> Sequence[Row]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self._path, is_reader=True, cache_kib=LONG_CACHE_KIB)
            self._long_connections.append(connection)
            connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
        return self._read(connection, statement, values)

    # ---- the writer thread

    def _write_all(self) -> None:
        is_closing = False
        while not is_closing:
            batch, is_closing = self._next_batch()
            if batch:
                with self._turn:
                    self._write_batch(batch)
                    self._checkpoint()
        self._connection.close()

    def _write_batch(self, batch: list[Job]) -> None:
        """Commit a batch and notify each waiting task; whatever fails, this thread continues."""
        is_durable = any(job.is_durable for job in batch)
        try:
            self._begin(_Mode("FULL" if is_durable else "NORMAL", CHECKPOINT_PAGES, BUSY_TIMEOUT_SECONDS))
        except sqlite3.Error as error:
            for job in batch:
                job.fail(self._failure(error))
        else:
            self._commit(batch)
        for job in batch:
            job.settle()

    def _checkpoint(self) -> None:
        """Checkpoint the WAL after commits of the event loop; the remainder is left to the next time."""
        if self._short_commits >= SHORT_COMMITS:
            self._short_commits = 0
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            except sqlite3.Error as error:
                log.warning("checkpoint_failed", error=str(error))

    def _next_batch(self) -> tuple[list[Job], bool]:
        batch: list[Job] = []
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

    def _begin(self, mode: _Mode) -> None:
        """Begin a transaction, changing the connection's settings if the last one had others."""
        if self._mode != mode:
            self._mode = None
            self._connection.execute(f"PRAGMA synchronous = {mode.synchronous}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {mode.checkpoint_pages}")
            self._connection.execute(f"PRAGMA busy_timeout = {mode.busy_seconds * 1000}")
            self._mode = mode
        self._connection.execute("BEGIN IMMEDIATE")

    def _commit(self, batch: list[Job]) -> None:
        """Run the jobs of a transaction that has begun, and commit it."""
        connection = self._connection
        try:
            for job in batch:
                self._attempt(job, is_alone=len(batch) == 1)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            for job in batch:
                job.fail(self._failure(error))
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _attempt(self, job: Job, *, is_alone: bool) -> None:
        """Run a job; among others in its own savepoint, so that its failure does not affect them."""
        if not is_alone:
            self._connection.execute("SAVEPOINT job")
        transaction = SqliteTransaction(self._connection)
        try:
            work = cast("Coroutine[Any, Any, Any]", job.work(transaction))
            job.result = job.context.run(straight_through, work)
            job.actions = transaction.actions
        except BaseException as error:  # every error belongs to the calling task, not to this thread
            job.fail(self._failure(error))
            if isinstance(error, sqlite3.Error) and not self._connection.in_transaction:
                raise  # a full or failing disk: SQLite has rolled back the whole transaction
            self._connection.execute("ROLLBACK" if is_alone else "ROLLBACK TO job")
        if not is_alone:
            self._connection.execute("RELEASE job")
