from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import Harness, open_harness
from tests.unit.servers.imap.talk import PASSWORD, USER


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    """A store with the account `USER`."""
    async with open_harness(tmp_path) as opened:
        await opened.add_account(USER, PASSWORD)
        yield opened
