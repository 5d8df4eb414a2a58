"""One process serves an SQLite install; with PostgreSQL any number may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from app.db.migrate import migrate, open_database
from app.db.ownership import DataInUse, sole_use
from app.settings import Settings

from tests.unit.db.test_migrate import as_before, version


def test_a_second_process_is_refused_in_one_line_that_names_the_first(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")

    with sole_use(settings), pytest.raises(DataInUse, match=f"pid {os.getpid()}") as refused, sole_use(settings):
        pass

    assert "\n" not in str(refused.value)
    with sole_use(settings):
        pass


def test_processes_that_share_a_postgresql_share_a_data_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql+asyncpg://127.0.0.1/postgate")

    with sole_use(settings), sole_use(settings):
        pass


def test_a_child_of_a_process_that_was_killed_does_not_hold_its_data(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    (ready, say_ready), (end, say_end) = os.pipe(), os.pipe()
    with sole_use(settings):
        child = os.fork()
        if child == 0:
            os.close(say_end)
            os.write(say_ready, b".")
            os.read(end, 1)
            os._exit(0)
        os.read(ready, 1)
    try:
        with sole_use(settings):
            pass
    finally:
        os.close(say_end)
        os.waitpid(child, 0)


async def test_a_command_beside_a_server_opens_its_database_and_does_not_upgrade_it(tmp_path: Path) -> None:
    current, old = Settings(data_dir=tmp_path / "current"), Settings(data_dir=tmp_path / "old")
    for settings in (current, old):
        settings.data_dir.mkdir()
    migrate(current)
    as_before(old, "0003")

    with sole_use(current), sole_use(old):
        await (await open_database(current)).close()
        with pytest.raises(DataInUse):
            await open_database(old)

    assert version(old) == [("0003",)]
    await (await open_database(old)).close()
