from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.cluster.bus import listening
from app.errors import DatabaseUnavailable
from app.workers.recovery import Recovery

from tests.harness import Harness, open_harness
from tests.outages import database_failing


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


async def test_all_who_wait_are_woken_once_the_database_is_back(harness: Harness) -> None:
    recovery = Recovery(harness.database, harness.bus)
    with listening(harness.bus, "acc_1", "accounts") as waiter:
        await recovery.look()
        assert waiter.topics == set()

        with database_failing():
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    await harness.mailbox(await harness.add_account("ann@demo.test"))
                with pytest.raises(DatabaseUnavailable):
                    await recovery.look()
        assert waiter.topics == set()

        await recovery.look()
        assert waiter.topics == {"acc_1", "accounts"}
        waiter.topics.clear()
        await recovery.look()
        assert waiter.topics == set()
