from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from app.services import health
from app.services.health import Health, NotReady

from tests.harness import Harness, open_harness
from tests.outages import database_away, database_failing, disk_full


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


@pytest.mark.parametrize(
    ("outage", "reason"),
    [
        (database_away(), "The database is unavailable"),
        (database_failing(), "The database failed: SQLITE_IOERR"),
        (disk_full(), "Messages cannot be stored: The disk is full (ENOSPC)"),
    ],
)
async def test_a_process_that_cannot_work_says_why_until_it_can(
    harness: Harness, outage: AbstractContextManager[None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", -1.0)
    checked = Health(harness.database, harness.store.blobs, asyncio.Event())
    await checked.check()

    with outage, pytest.raises(NotReady) as problem:
        await checked.check()
    assert problem.value.detail == reason

    await checked.check()


async def test_a_flood_of_questions_makes_one_probe(harness: Harness) -> None:
    checked = Health(harness.database, harness.store.blobs, asyncio.Event())
    await checked.check()
    with database_away():
        await checked.check()
