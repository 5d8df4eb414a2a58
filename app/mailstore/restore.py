"""Restores a backup: numbers and states that clients have from the lost time are never mistaken for later ones.

Each step can be repeated. Until the last one is done, the mark outside the database does not match it, so that no
server starts.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from app import faults, files
from app.db import after_restore, epoch, installation, transfer
from app.db.epoch import Mark
from app.db.migrate import connected, migrate, sqlite_path
from app.db.ownership import sole_use
from app.mail.identifiers import now_ms
from app.mailstore.backup import BackupError, Manifest, blobs_in, digest_of, link_or_copy, read_manifest
from app.mailstore.blobs import Blobs
from app.security.vault import Vault
from app.settings import Settings

STAGING = "restoring"
REPLACED = "replaced"
"""Where the database that a restore replaced is kept, in the data directory, until the next restore."""


def restore(settings: Settings, source: Path) -> after_restore.RestoreCounts:
    """Replace the installation's database and message bytes by those of a backup. Blocks.

    Raises BackupError for an incomplete backup, MasterKeyError if the key of its secrets is missing, DataInUse while
    a server runs; then nothing has changed.
    """
    with sole_use(settings):
        _refuse_others(settings)
        manifest = read_manifest(source)
        staged = _stage(settings, source, manifest)
        _check_keys(settings, staged)
        _place_blobs(settings, source, manifest)
        mark, changed = _begin_epoch(staged, _floor(settings))
        if settings.database_url is None:
            _exchange(settings, staged, mark)
        else:
            migrate(settings)
            asyncio.run(transfer.load(settings.database_url, sqlite_path(staged)))
            epoch.write(epoch.path_of(settings), mark)
            shutil.rmtree(staged.data_dir)
    return changed


def restore_in_place(settings: Settings) -> after_restore.RestoreCounts:
    """Make a database usable that was restored by other means. Blocks. Raises DataInUse while a server runs."""
    with sole_use(settings):
        _refuse_others(settings)
        migrate(settings)
        _check_keys(settings, settings)
        mark, changed = _begin_epoch(settings, _floor(settings))
        faults.point("restore.changed")
        epoch.write(epoch.path_of(settings), mark)
    return changed


def _refuse_others(settings: Settings) -> None:
    if settings.database_url is not None:
        asyncio.run(transfer.refuse_others(settings.database_url))


def _stage(settings: Settings, source: Path, manifest: Manifest) -> Settings:
    """Copy a backup's database beside the installation's and migrate it; return the settings of the copy."""
    folder = settings.data_dir / STAGING
    shutil.rmtree(folder, ignore_errors=True)
    files.make_directory(folder)
    staged = settings.model_copy(update={"data_dir": folder, "database_url": None})
    original = source / sqlite_path(staged).name
    if not original.exists() or digest_of(original) != manifest.sha256:
        raise BackupError(f"{original} is missing or damaged")
    with original.open("rb") as reader, files.create(sqlite_path(staged)) as copy:
        shutil.copyfileobj(reader, copy)
    files.sync(sqlite_path(staged))
    migrate(staged)
    return staged


def _check_keys(settings: Settings, staged: Settings) -> None:
    needed: set[bytes] = set()

    def read(connection: Connection) -> None:
        needed.update(installation.sealing_keys_on(connection))

    connected(staged, read)
    Vault.of(settings, needed)


def _place_blobs(settings: Settings, source: Path, manifest: Manifest) -> None:
    """Put the message bytes of a backup into the store, each compared with its hash. Raises BackupError."""
    blobs = Blobs(settings.data_dir / "blobs")
    lost = set(manifest.missing)
    folders: set[Path] = set()
    for name in blobs_in(source / sqlite_path(settings).name):
        if name in lost:
            continue
        path, target = source / "blobs" / name[:2] / name[2:], blobs.path_of(name)
        if not path.exists() or digest_of(path) != name:
            raise BackupError(f"{path} is missing or damaged")
        if target.exists() and digest_of(target) == name:
            continue
        target.unlink(missing_ok=True)
        link_or_copy(path, target)
        folders.add(target.parent)
    for folder in folders:
        files.sync_directory(folder)
    faults.point("restore.blobs_placed")


def _begin_epoch(settings: Settings, floor: int) -> tuple[Mark, after_restore.RestoreCounts]:
    """Begin another epoch in a database; return its mark."""
    name = epoch.new_epoch()
    results: list[after_restore.RestoreCounts] = []
    begin = partial(after_restore.begin_epoch, epoch=name, now_ms=now_ms(), uid_validity_floor=floor)
    connected(settings, lambda connection: results.append(begin(connection)))
    return Mark(name, 0, results[0].uid_validity), results[0]


def _floor(settings: Settings) -> int:
    """Return the highest UIDVALIDITY used before: by restores, and by the database that is replaced."""
    mark = epoch.read(epoch.path_of(settings))
    floor = 0 if mark is None else mark.uid_validity
    path = sqlite_path(settings)
    if settings.database_url is None and path.exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
            floor = max(floor, connection.execute("SELECT max(last_uid_validity) FROM account").fetchone()[0] or 0)
    return floor


def _exchange(settings: Settings, staged: Settings, mark: Mark) -> None:
    """Put the staged database in place of the installation's, which is kept aside.

    No server starts before it is done.
    """
    path, aside = sqlite_path(settings), settings.data_dir / REPLACED
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    files.make_directory(aside)
    exchanging = settings.data_dir / epoch.EXCHANGING
    shutil.rmtree(exchanging, ignore_errors=True)
    staged.data_dir.rename(exchanging)
    files.sync_directory(settings.data_dir)
    epoch.write(epoch.path_of(settings), mark)
    faults.point("restore.marked")
    for suffix in ("-wal", "-shm", ""):  # a WAL left behind would be applied to the other database
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside / (path.name + suffix))
    faults.point("restore.set_aside")
    (exchanging / path.name).rename(path)
    files.sync_directory(settings.data_dir)
    faults.point("restore.exchanged")
    shutil.rmtree(exchanging)
