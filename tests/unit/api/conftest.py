from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway import Gateway, open_gateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as gateway:
        yield gateway
