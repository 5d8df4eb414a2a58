"""What is told of an account's limits at its mail server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from app.errors import ServerProtocolError
from app.mail.backend import Quota, QuotaResource
from app.mirror.account import Mirror
from app.workers.sync.quotas import QuotaReporter

from tests.fake_origin import FakeOrigin
from tests.harness import open_harness
from tests.sync_harness import Followed, add_remote_account

MIB = 1024 * 1024


def storage(used: int, limit: int | None) -> Quota:
    return Quota("user", QuotaResource.STORAGE, used, limit)


@pytest.fixture
def origin() -> FakeOrigin:
    return FakeOrigin()


@pytest.fixture
async def followed(tmp_path: Path, origin: FakeOrigin) -> AsyncIterator[Followed]:
    async with open_harness(tmp_path) as harness:
        yield Followed(harness, await add_remote_account(harness, "ann@fake.test"), origin.backend)


async def ask(followed: Followed) -> list[list[dict[str, Any]]]:
    """As a worker does that has just connected; the items of every `quota.changed` so far."""
    await QuotaReporter(
        Mirror(followed.account_id, followed.harness.index, followed.harness.reader, followed.backend)
    ).check()
    return [orjson.loads(one.body)["data"]["items"] for one in await followed.events("quota.changed")]


async def test_what_is_heard_of_limits_first_is_no_change(followed: Followed, origin: FakeOrigin) -> None:
    origin.limits = [storage(30 * MIB, 100 * MIB)]

    assert await ask(followed) == []
    assert await ask(followed) == []


async def test_another_limit_is_told_though_it_was_set_while_nobody_watched(
    followed: Followed, origin: FakeOrigin
) -> None:
    origin.limits = [storage(30 * MIB, 100 * MIB)]
    await ask(followed)
    origin.limits = [storage(30 * MIB, 200 * MIB)]

    told = await ask(followed)

    item = {"root": "user", "resource": "storage", "used": 30 * MIB, "limit": 200 * MIB}
    assert told == [[item]]
    assert await ask(followed) == told


async def test_use_is_told_by_tenths_of_the_limit_and_not_by_messages(followed: Followed, origin: FakeOrigin) -> None:
    told = []
    for used in (30, 31, 39, 40, 89, 100, 130, 12):
        origin.limits = [storage(used, 100)]
        told = await ask(followed)

    assert [items[0]["used"] for items in told] == [40, 89, 100, 12]


@pytest.mark.parametrize("limits", [None, [], [storage(5, None)]])
async def test_a_server_without_limits_has_none_to_change(
    followed: Followed, origin: FakeOrigin, limits: list[Quota] | None
) -> None:
    origin.limits = limits
    await ask(followed)

    assert await ask(followed) == []


async def test_a_worker_asks_seldom(followed: Followed, origin: FakeOrigin) -> None:
    teller = QuotaReporter(
        Mirror(followed.account_id, followed.harness.index, followed.harness.reader, followed.backend)
    )
    for limit in (100, 200, 300):
        origin.limits = [storage(30, limit)]
        await teller.check()

    assert await followed.told("quota.") == []


async def test_a_followed_account_tells_of_its_limits(followed: Followed, origin: FakeOrigin) -> None:
    origin.limits = [storage(30, 100)]
    await ask(followed)
    origin.limits = [storage(95, 100)]

    async with followed.following():
        await followed.until(lambda: followed.told("quota."), ["quota.changed"])


async def test_a_server_that_fails_when_asked_for_limits_is_followed_all_the_same(
    followed: Followed, origin: FakeOrigin
) -> None:
    origin.limits_fault = ServerProtocolError("garbage")
    async with followed.following():
        await followed.until_live()
        origin.add("new")
        await followed.until(followed.content, origin.content())

    assert await followed.told("account.") == ["account.connected"]
