"""Detects a database that was restored from a copy without `postgate restore`.

Such a database would assign the UIDs, states and submissions of the lost time again. Therefore a mark is stored
outside the database: the installation's epoch, and a count that grows while the database changes. The database's
count is committed first, so it is lower than the mark's only if the database is older than the mark.

The mark of an SQLite installation is stored beside the database; that of PostgreSQL with the message bytes, which
several processes may share.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import orjson

from app import files
from app.db import installation
from app.db.session import Database, Transaction, Work
from app.errors import GatewayError
from app.settings import Settings

T = TypeVar("T")

EXCHANGING = "exchanging"
"""A folder in the data directory that exists while a restore exchanges the database."""
_MARK_BYTES = 256
"""Marks are padded to one size, so that a new count is written in place, and the file is never incomplete."""


class DatabaseRestored(GatewayError):
    """The database is older than the mark, or of another epoch."""

    code = "database_restored"

    def __init__(self, why: str, fix: str = "run `postgate restore --in-place`") -> None:
        super().__init__(f"The database was restored from a copy ({why}): {fix}")


@dataclass(frozen=True, slots=True)
class Mark:
    """The facts stored outside the database. `uid_validity`: the highest that restores have assigned."""

    epoch: str
    tick: int = 0
    uid_validity: int = 0


def new_epoch() -> str:
    return secrets.token_hex(16)


def path_of(settings: Settings) -> Path:
    return settings.data_dir / "epoch" if settings.database_url is None else settings.data_dir / "blobs" / "epoch"


def read(path: Path) -> Mark | None:
    """Return None if there is no readable mark."""
    try:
        return Mark(**orjson.loads(path.read_bytes()))
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None


def write(path: Path, mark: Mark) -> None:
    """Replace the mark durably."""
    files.make_directory(path.parent)
    files.replace(path, _bytes_of(mark))


def _bytes_of(mark: Mark) -> bytes:
    return orjson.dumps(mark).ljust(_MARK_BYTES - 1) + b"\n"


def refuse_unfinished(settings: Settings) -> None:
    """Raises DatabaseRestored if `postgate restore` was interrupted while it exchanged the database."""
    if (folder := settings.data_dir / EXCHANGING).exists():
        raise DatabaseRestored(
            f"a restore was interrupted, see {folder}", "run `postgate restore` with the backup again"
        )


async def open_epoch(settings: Settings, database: Database) -> installation.Installation:
    """Check a database against the mark, and create both for a new installation. Raises DatabaseRestored."""
    path = path_of(settings)
    mark = read(path)  # before the database: another process may increase the counts in between
    known = await installation.read(database)
    if known is None:
        if mark is not None and await installation.has_accounts(database):
            raise DatabaseRestored("it belongs to an earlier version of Postgate")
        return await _begin(path, database, 0 if mark is None else mark.uid_validity)
    _check(mark, known, is_shared=settings.database_url is not None)
    if mark is None:
        write(path, Mark(known.epoch, known.tick))
    return known


async def _begin(path: Path, database: Database, uid_validity: int) -> installation.Installation:
    """Begin the first epoch of a database."""

    async def work(transaction: Transaction) -> installation.Installation:
        await installation.add(transaction, new_epoch())
        made = await installation.read(transaction)
        assert made is not None
        return made

    known = await database.write(work)
    write(path, Mark(known.epoch, known.tick, uid_validity))
    return known


def _check(mark: Mark | None, known: installation.Installation, *, is_shared: bool) -> None:
    """Raises DatabaseRestored if the database is older than the mark. `is_shared`: this machine may lack the mark."""
    if mark is None:
        if not is_shared:
            raise DatabaseRestored("the file `epoch` beside it is missing")
    elif known.epoch != mark.epoch:
        raise DatabaseRestored("it belongs to another epoch")
    elif known.tick < mark.tick:
        raise DatabaseRestored("it is older than when it was last in use")


async def count_on(settings: Settings, database: Database) -> int:
    """Increase the database's count and the mark's. Return the new count."""
    epoch, tick = await database.write(installation.tick)
    advance(path_of(settings), epoch, tick)
    return tick


def advance(path: Path, epoch: str, tick: int) -> None:
    """Write a higher count into the mark, in place and unsynced: it must survive the process, not the machine."""
    with files.locked(path.with_name("epoch.lock")):
        mark = read(path)
        if mark is None or mark.epoch != epoch:
            write(path, Mark(epoch, tick, 0 if mark is None else mark.uid_validity))
        elif mark.tick < tick:
            descriptor = os.open(path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, _bytes_of(replace(mark, tick=tick)), 0)
            finally:
                os.close(descriptor)


class WatchedDatabase:
    """A Database that reports durable writes."""

    def __init__(self, database: Database, on_write: Callable[[], None]) -> None:
        self._database = database
        self._on_write = on_write
        self.rows, self.row, self.close = database.rows, database.row, database.close

    @property
    def failure_count(self) -> int:
        return self._database.failure_count

    @failure_count.setter
    def failure_count(self, count: int) -> None:
        self._database.failure_count = count

    async def write(
        self, work: Work[T], *, is_durable: bool = True, is_short: bool = False, turn: str | None = None
    ) -> T:
        try:
            return await self._database.write(work, is_durable=is_durable, is_short=is_short, turn=turn)
        finally:
            if is_durable:
                self._on_write()
