from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway import Gateway, open_gateway
from tests.unit.api.mail import Mail, open_mail


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def mail(gateway: Gateway) -> Mail:
    return await open_mail(gateway)
