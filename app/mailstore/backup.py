"""Backups: a folder with the database, all message bytes that it refers to, and a manifest that is written last.

The database is an SQLite file, whichever database the installation has. The master key is not in it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson

from app import files
from app.db import transfer
from app.db.copies import copy_database
from app.db.migrate import SCHEMA_VERSION, migrate, refuse_newer, schema_version, sqlite_path
from app.errors import GatewayError
from app.mail.identifiers import now_ms
from app.mailstore.blobs import Blobs
from app.settings import Settings

MANIFEST = "backup.json"
FORMAT = 1
_BLOBS_IN_USE = (
    "SELECT blob FROM message WHERE blob IS NOT NULL UNION SELECT blob FROM submission WHERE blob IS NOT NULL"
)


class BackupError(GatewayError):
    """A backup cannot be made, or is not whole."""

    code = "backup_error"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `missing` names blobs that the store had lost when it was made."""

    format: int
    created_at_ms: int
    schema: str
    sha256: str
    """Of the database file."""
    blobs: int
    blob_bytes: int
    missing: tuple[str, ...]


def back_up(settings: Settings, target: Path) -> Manifest:
    """Write a backup into a folder that is new or empty, beside a running server too. Blocks. BackupError."""
    if settings.database_url is None and not sqlite_path(settings).exists():
        raise BackupError(f"There is no database in {settings.data_dir}")
    files.make_directory(target)
    if any(target.iterdir()):
        raise BackupError(f"{target} is not empty")
    target.chmod(files.DIRECTORY_MODE)
    blobs = Blobs(settings.data_dir / "blobs")
    created_at_ms = now_ms()
    database = target / sqlite_path(settings).name
    with blobs.kept():  # rows of the copy may be gone from the original before their bytes are copied
        schema = _copy_database(settings, database)
        copied, size_bytes, missing = _copy_blobs(blobs, database, target / "blobs")
    manifest = Manifest(FORMAT, created_at_ms, schema, digest_of(database), copied, size_bytes, missing)
    files.replace(target / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    return manifest


def _copy_database(settings: Settings, target: Path) -> str:
    """The database as of one moment, as an SQLite file; the version of its schema."""
    copy = settings.model_copy(update={"data_dir": target.parent, "database_url": None})
    if settings.database_url is None:
        copy_database(sqlite_path(settings), target)
    else:
        if (found := schema_version(settings)) != SCHEMA_VERSION:  # servers of another version may run
            raise BackupError(f"The database has schema {found}, not {SCHEMA_VERSION}: start this version first")
        migrate(copy)
        asyncio.run(transfer.dump(settings.database_url, target))
        files.sync(target)
    version = schema_version(copy)
    refuse_newer(version)
    if version is None:
        raise BackupError("The database was never started")
    return version


def _copy_blobs(blobs: Blobs, database: Path, target: Path) -> tuple[int, int, tuple[str, ...]]:
    """Copy what the database refers to; the number of blobs, their bytes, and the names of those that are lost."""
    copied = size_bytes = 0
    missing: list[str] = []
    folders: set[Path] = {target, target.parent}
    files.make_directory(target)
    for name in blobs_in(database):
        path = target / name[:2] / name[2:]
        files.make_directory(path.parent)
        folders.add(path.parent)
        try:
            link_or_copy(blobs.path_of(name), path)
        except FileNotFoundError:
            missing.append(name)
            continue
        copied += 1
        size_bytes += path.stat().st_size
    for folder in folders:
        files.sync_directory(folder)
    return copied, size_bytes, tuple(missing)


def blobs_in(database: Path) -> Iterator[str]:
    """Names of the blobs that a database file refers to."""
    with closing(sqlite3.connect(database)) as connection:
        for (blob,) in connection.execute(_BLOBS_IN_USE):
            yield str(blob)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file that is never changed; a copy, synced, where it lies on another disk."""
    try:
        os.link(source, target)
        source.chmod(files.FILE_MODE)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES):
            raise
        with source.open("rb") as reader, files.create(target) as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(source: Path) -> Manifest:
    """The manifest of a backup. BackupError where it has none, or one of another form."""
    try:
        fields = orjson.loads((source / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{source} is no backup, or one that was not finished: it has no {MANIFEST}") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise BackupError(f"{source / MANIFEST} cannot be read: {error}") from None
    if fields.get("format") != FORMAT:
        raise BackupError(f"{source} is a backup of a form that this version of Postgate does not know")
    return Manifest(**{**fields, "missing": tuple(fields["missing"])})
