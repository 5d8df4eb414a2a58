"""Creates files that only their owner can read, regardless of the umask, and writes them durably.

SQLite gives its `-wal`, `-shm` and `-journal` files the mode of the database file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
OTHERS = 0o077
"""Mode bits of group and others."""


def make_directory(path: Path) -> Path:
    """Create a directory if it is missing. An existing directory keeps its mode."""
    path.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    return path


def create(path: Path, buffering: int = -1) -> BinaryIO:
    """Create a file for writing. Raises FileExistsError if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    return os.fdopen(descriptor, "wb", buffering)


def touch(path: Path) -> None:
    """Create an empty file if it is missing. An existing file keeps its mode and content."""
    with contextlib.suppress(FileExistsError):
        create(path).close()


def replace(path: Path, content: bytes) -> None:
    """Replace a file durably and atomically: a reader finds either the old or the new content."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with create(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush the entries of a directory to disk."""
    sync(path)


def sync(path: Path) -> None:
    """Flush the content of a file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, *, is_shared: bool = False, is_waiting: bool = True) -> Iterator[BinaryIO]:
    """Hold an advisory lock on a file, which is created if missing. The lock ends with the process at the latest.

    Raises BlockingIOError if the lock is held elsewhere and `is_waiting` is False.
    """
    touch(path)
    with path.open("r+b") as file:
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if is_waiting else kind | fcntl.LOCK_NB)
        yield file


def create_in_use(path: Path, buffering: int = -1) -> BinaryIO:
    """Create a file for writing, locked until it is closed: `remove_abandoned` keeps it. Raises FileExistsError."""
    file = create(path, buffering)
    fcntl.flock(file, fcntl.LOCK_EX)
    if os.fstat(file.fileno()).st_nlink == 0:  # `remove_abandoned` deleted it before it was locked
        file.close()
        return create_in_use(path, buffering)
    return file


def remove_abandoned(path: Path) -> None:
    """Delete a file of `create_in_use` whose process has ended."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def exposed(directory: Path) -> Path | None:
    """The directory or an entry of it that other users can access, or None."""
    return next((path for path in _with_entries(directory) if path.lstat().st_mode & OTHERS), None)


def close_to_others(directory: Path) -> None:
    """Remove other users' access to a directory and its entries."""
    for path in _with_entries(directory):
        path.chmod(path.stat().st_mode & 0o7777 & ~OTHERS)


def _with_entries(directory: Path) -> Iterator[Path]:
    """The directory and its entries, without symbolic links, which have no mode of their own."""
    if directory.is_dir():
        yield directory
        yield from (path for path in sorted(directory.iterdir()) if not path.is_symlink())
