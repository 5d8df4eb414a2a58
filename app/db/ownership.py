"""Ensures that one process works on the data of an SQLite installation.

With SQLite, one process serves a data directory; commands of the command line may run beside it. With PostgreSQL, any
number of processes may.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from app import files
from app.errors import GatewayError
from app.settings import Settings

LOCK_FILE = "postgate.lock"


class DataInUse(GatewayError):
    """Another process serves or upgrades the data directory."""

    code = "data_in_use"


@contextmanager
def sole_use(settings: Settings) -> Iterator[None]:
    """Prevent other processes from serving or upgrading an SQLite installation.

    Raises DataInUse if one does already.
    """
    with ExitStack() as stack:
        if settings.database_url is None:
            _lock(settings, stack)
        yield


def _lock(settings: Settings, stack: ExitStack) -> None:
    path = files.make_directory(settings.data_dir) / LOCK_FILE
    try:
        file = stack.enter_context(files.locked(path, is_waiting=False))
    except BlockingIOError:
        holder = path.read_text().strip() or "unknown"
        raise DataInUse(f"Another process (pid {holder}) uses {settings.data_dir}: stop it first") from None
    os.register_at_fork(after_in_child=file.close)  # a child process that outlives this one must not hold the lock
    file.truncate()
    file.write(f"{os.getpid()}\n".encode())
    file.flush()
