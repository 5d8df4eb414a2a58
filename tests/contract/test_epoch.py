"""The count of changes shows what other processes have written."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.db import epoch
from app.db.migrate import open_database
from app.settings import Settings
from app.workers.epoch import EpochKeeper


@pytest.fixture
def settings(database_url: str | None, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url)


async def test_a_keeper_calls_once_for_what_others_wrote_and_never_for_its_own_writes(settings: Settings) -> None:
    database = await open_database(settings)
    try:
        await epoch.open_epoch(settings, database)
        keeper, calls = EpochKeeper(settings, database), list[str]()
        keeper.on_others = lambda: calls.append("others")
        await keeper.count()
        for _ in range(3):
            keeper.wake()
            await keeper.count()
            await keeper.count()
        assert calls == []

        await EpochKeeper(settings, database).close()  # another process ends
        await keeper.count()
        await keeper.count()
        assert calls == ["others"]

        keeper.wake()
        await EpochKeeper(settings, database).close()
        await keeper.count()
        assert calls == ["others", "others"]
    finally:
        await database.close()
