"""A database or a disk that fails for a while."""

from __future__ import annotations

import errno
import os
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
