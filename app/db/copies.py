"""Copies of an SQLite database that is in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from app import files

COPIES_KEPT = 2
"""The number of copies from before upgrades that are kept: the newest."""
COPIES_FOLDER = "before-upgrade"


def copy_database(source: Path, target: Path) -> None:
    """Write a consistent copy of a database file, durable when this returns. Replaces an existing file."""
    temporary = target.with_name(f"{target.name}.part")
    temporary.unlink(missing_ok=True)
    files.touch(temporary)
    with closing(sqlite3.connect(source)) as reader, closing(sqlite3.connect(temporary)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")
        reader.backup(copy)
        # the copy is a single file, with any journal mode of the original
        copy.execute("PRAGMA journal_mode = DELETE")
    files.sync(temporary)
    temporary.replace(target)
    files.sync_directory(target.parent)


def copy_before_upgrade(path: Path, name: str) -> Path:
    """Store a copy of a database beside it, and delete all but the newest `COPIES_KEPT` copies."""
    folder = files.make_directory(path.parent / COPIES_FOLDER)
    target = folder / f"{name}.sqlite3"
    copy_database(path, target)
    copies = sorted(folder.glob("*.sqlite3"), key=lambda copy: copy.stat().st_mtime_ns, reverse=True)
    for copy in copies[COPIES_KEPT:]:
        copy.unlink()
    return target
