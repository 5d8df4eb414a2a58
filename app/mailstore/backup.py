"""Backups: a folder with the database, all message bytes that it refers to, and a manifest that is written last.

The database is an SQLite file, whichever database the installation uses. The master key is not included.
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
    """A backup cannot be made, or is incomplete."""

    code = "backup_error"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a backup. `missing` names blobs that were already missing in the store."""

    format: int
    created_at_ms: int
    schema: str
    sha256: str
    """The digest of the database file."""
    blobs: int
    blob_bytes: int
    missing: tuple[str, ...]


def back_up(settings: Settings, target: Path) -> Manifest:
    """Write a backup into a new or empty folder, also while a server runs. Blocks. Raises BackupError."""
    if settings.database_url is None and not sqlite_path(settings).exists():
        raise BackupError(f"There is no database in {settings.data_dir}")
    files.make_directory(target)
    if any(target.iterdir()):
        raise BackupError(f"{target} is not empty")
    target.chmod(files.DIRECTORY_MODE)
    blobs = Blobs(settings.data_dir / "blobs")
    created_at_ms = now_ms()
    database = target / sqlite_path(settings).name
    with blobs.kept():  # the original may delete rows of the copy before their bytes are copied
        schema = _copy_database(settings, database)
        copied, size_bytes, missing = _copy_blobs(blobs, database, target / "blobs")
    manifest = Manifest(FORMAT, created_at_ms, schema, digest_of(database), copied, size_bytes, missing)
    files.replace(target / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    return manifest


def _copy_database(settings: Settings, target: Path) -> str:
    """Copy the database at one moment to an SQLite file. Return the version of its schema."""
    copy = settings.model_copy(update={"data_dir": target.parent, "database_url": None})
    if settings.database_url is None:
        copy_database(sqlite_path(settings), target)
    else:
        if (schema := schema_version(settings)) != SCHEMA_VERSION:  # servers of another version may run
            raise BackupError(f"The database has schema {schema}, not {SCHEMA_VERSION}: start this version first")
        migrate(copy)
        asyncio.run(transfer.dump(settings.database_url, target))
        files.sync(target)
    version = schema_version(copy)
    refuse_newer(version)
    if version is None:
        raise BackupError("The database was never started")
    return version


def _copy_blobs(blobs: Blobs, database: Path, target: Path) -> tuple[int, int, tuple[str, ...]]:
    """Copy the blobs of the database. Return their number, their bytes, and the names of missing ones."""
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
    """Yield the names of the blobs that a database file refers to."""
    with closing(sqlite3.connect(database)) as connection:
        for (blob,) in connection.execute(_BLOBS_IN_USE):
            yield str(blob)


def link_or_copy(source: Path, target: Path) -> None:
    """Add a hard link to an immutable file, or a synced copy if it is on another disk."""
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
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(source: Path) -> Manifest:
    """Read the manifest of a backup. Raises BackupError if it has none, or an unknown format."""
    try:
        fields = orjson.loads((source / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{source} is not a complete backup: it has no {MANIFEST}") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise BackupError(f"{source / MANIFEST} cannot be read: {error}") from None
    if fields.get("format") != FORMAT:
        raise BackupError(f"{source} has a backup format that this version of Postgate does not support")
    return Manifest(**{**fields, "missing": tuple(fields["missing"])})
