"""Files that only their owner can read, with any umask, and that survive a power cut once written.

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
"""Mode bits of everybody but the owner."""


def make_directory(path: Path) -> Path:
    """Make a directory where it is missing. An existing directory keeps its mode."""
    path.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    return path


def create(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a new file for writing. FileExistsError where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    return os.fdopen(descriptor, "wb", buffering)


def touch(path: Path) -> None:
    """Make an empty file where it is missing. An existing file keeps its mode and content."""
    with contextlib.suppress(FileExistsError):
        create(path).close()


def replace(path: Path, content: bytes) -> None:
    """Put a file in place, durable and whole: a reader finds the old content or the new."""
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
    """Make the names in a directory durable."""
    sync(path)


def sync(path: Path) -> None:
    """Make the content of a file or directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, *, is_shared: bool = False, is_waiting: bool = True) -> Iterator[BinaryIO]:
    """Hold an advisory lock on a file, which is made where it is missing. It ends with the process at the latest.

    BlockingIOError where somebody else holds it and we do not wait.
    """
    touch(path)
    with path.open("r+b") as file:
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if is_waiting else kind | fcntl.LOCK_NB)
        yield file


def create_in_use(path: Path, buffering: int = -1) -> BinaryIO:
    """Open a new file for writing, locked until it is closed: `remove_abandoned` spares it. FileExistsError."""
    file = create(path, buffering)
    fcntl.flock(file, fcntl.LOCK_EX)
    if os.fstat(file.fileno()).st_nlink == 0:  # taken for abandoned before it was locked
        file.close()
        return create_in_use(path, buffering)
    return file


def remove_abandoned(path: Path) -> None:
    """Delete a file that `create_in_use` made and whose process is gone."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def exposed(directory: Path) -> Path | None:
    """A path that others can use: the directory or an entry of it. None where there is none."""
    return next((path for path in _with_entries(directory) if path.lstat().st_mode & OTHERS), None)


def close_to_others(directory: Path) -> None:
    """Take everybody else's rights to a directory and its entries away."""
    for path in _with_entries(directory):
        path.chmod(path.stat().st_mode & 0o7777 & ~OTHERS)


def _with_entries(directory: Path) -> Iterator[Path]:
    """The directory and what lies in it; a symbolic link has no mode of its own."""
    if directory.is_dir():
        yield directory
        yield from (path for path in sorted(directory.iterdir()) if not path.is_symlink())
