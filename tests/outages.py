"""A database or a disk that fails for a while."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from app.db.sqlite import SqliteDatabase
from app.errors import DatabaseUnavailable
from app.mailstore.blobs import BlobWriter


@contextmanager
def database_away(*, is_readable: bool = False) -> Iterator[None]:
    """Every call fails, or every write alone."""

    async def fail(*_: Any, **__: Any) -> NoReturn:
        raise DatabaseUnavailable

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write",) if is_readable else ("rows", "row", "write"):
            patch.setattr(SqliteDatabase, name, fail)
        yield


@contextmanager
def disk_full() -> Iterator[None]:
    """No message can be put on disk."""

    def fail(_: BlobWriter) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlobWriter, "sync", fail)
        yield


@contextmanager
def database_failing() -> Iterator[None]:
    """The file of the database cannot be written: what SQLite itself says of it."""

    def fail(self: SqliteDatabase, *_: Any) -> NoReturn:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteDatabase, "_begin", fail)
        yield
