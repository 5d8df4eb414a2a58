from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.cluster.bus import listening
from app.errors import DatabaseUnavailable
from app.workers.recovery import Recovery

from tests.house import House, open_house
from tests.outages import database_failing


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def test_all_who_wait_are_woken_once_the_database_is_back(house: House) -> None:
    recovery = Recovery(house.database, house.bus)
    with listening(house.bus, "acc_1", "accounts") as waiter:
        await recovery.look()
        assert waiter.topics == set()

        with database_failing():
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    await house.mailbox(await house.add_account("ann@demo.test"))
                with pytest.raises(DatabaseUnavailable):
                    await recovery.look()
        assert waiter.topics == set()

        await recovery.look()
        assert waiter.topics == {"acc_1", "accounts"}
        waiter.topics.clear()
        await recovery.look()
        assert waiter.topics == set()
