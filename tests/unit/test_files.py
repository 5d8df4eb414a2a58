"""Whatever the umask, what is written is its owner's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from app import demo, files
from app.db.migrate import open_database
from app.mailstore.blobs import SMALL_BYTES, Blobs
from app.security.vault import Vault
from app.settings import Settings


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The mode of a directory and of everything in it that is not a directory 0700 or a file 0600."""
    entries = [folder, *folder.rglob("*")]
    return {
        path.name: mode
        for path in entries
        if (mode := stat.S_IMODE(path.stat().st_mode)) != (0o700 if path.is_dir() else 0o600)
    }


async def test_a_database_in_use_is_its_owners_alone_with_its_log_and_its_shared_memory(tmp_path: Path) -> None:
    database = await open_database(Settings(data_dir=tmp_path / "data"))
    try:
        names = {path.name for path in (tmp_path / "data").iterdir()}
        assert names == {"postgate.sqlite3", "postgate.sqlite3-shm", "postgate.sqlite3-wal"}
        assert modes(tmp_path / "data") == {}
    finally:
        await database.close()


async def test_messages_are_their_owners_alone_while_they_arrive_and_once_stored(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    writer = blobs.writer()
    writer.write(b"x" * (SMALL_BYTES + 1))
    assert modes(tmp_path / "blobs") == {}

    await blobs.commit([writer])
    await blobs.put(b"small")

    assert modes(tmp_path / "blobs") == {}


def test_the_key_and_the_passwords_of_the_demo_are_their_owners_alone(tmp_path: Path) -> None:
    Vault.of(Settings(data_dir=tmp_path / "data"))
    user = {"email": "a@demo.test", "password": "secret", "account_id": "acc_1"}
    facts = {"base_url": "http://127.0.0.1:1", "server_key": "secret", "users": [user, user], "ports": {}}
    demo.write(facts, tmp_path / "data")

    assert modes(tmp_path / "data") == {}


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)

    files.replace(path, b"new")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "mode"), [("", 0o701), ("", 0o740), ("file", 0o604), ("file", 0o620), ("sub", 0o750)])
def test_what_others_can_use_is_found_and_closed_to_them(tmp_path: Path, name: str, mode: int) -> None:
    folder = files.make_directory(tmp_path / "data")
    files.touch(folder / "file")
    files.make_directory(folder / "sub")
    assert files.exposed(folder) is None

    (folder / name).chmod(mode)
    assert files.exposed(folder) == folder / name
    files.close_to_others(folder)

    assert files.exposed(folder) is None


def test_a_directory_that_is_not_there_exposes_nothing(tmp_path: Path) -> None:
    assert files.exposed(tmp_path / "none") is None


def test_a_file_taken_for_abandoned_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = files.create
    is_taken: list[bool] = []

    def create_and_lose(path: Path, buffering: int = -1) -> object:
        file = create(path, buffering)
        if not is_taken:
            is_taken.append(True)
            path.unlink()
        return file

    monkeypatch.setattr(files, "create", create_and_lose)

    with files.create_in_use(tmp_path / "file") as file:
        file.write(b"kept")

    assert (tmp_path / "file").read_bytes() == b"kept"
