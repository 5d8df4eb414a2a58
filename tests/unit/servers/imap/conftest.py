from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.house import House, open_house
from tests.unit.servers.imap.talk import PASSWORD, USER


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A store with the account `USER`."""
    async with open_house(tmp_path) as opened:
        await opened.add_account(USER, PASSWORD)
        yield opened
