from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from app.errors import InvalidRequest, NotAuthenticated, RateLimited
from app.services.access import hashing, throttle
from app.services.access.logins import Logins
from argon2 import PasswordHasher

from tests.access import set_password
from tests.harness import FAST_HASHER, Harness, open_harness

HERE, HOME, ELSEWHERE = "192.0.2.1", "192.0.2.99", "198.51.100.7"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


class Clock:
    """Seconds that pass when told to, and whoever sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


class CountingHasher(PasswordHasher):
    """Counts the verifications, each of which costs much."""

    verified = 0

    def verify(self, *arguments: Any) -> Literal[True]:
        self.verified += 1
        return super().verify(*arguments)


async def fail(service: Logins, email: str, *, address: str = HERE) -> type[Exception]:
    with pytest.raises((NotAuthenticated, RateLimited)) as raised:
        await service.verify(email, "wrong", address=address)
    return raised.type


async def test_the_right_password_gives_the_account_without_delay(harness: Harness) -> None:
    account_id = await harness.add_account("Ann@Demo.test", "pass word")

    assert (await harness.logins.verify("ann@demo.TEST", "pass word", address=HERE)).account_id == account_id
    assert harness.waits == []


async def test_a_wrong_password_and_an_unknown_account_fail_alike(harness: Harness) -> None:
    await harness.add_account("ann@demo.test", "right")

    with pytest.raises(NotAuthenticated) as wrong:
        await harness.logins.verify("ann@demo.test", "wrong", address=HERE)
    with pytest.raises(NotAuthenticated) as unknown:
        await harness.logins.verify("nobody@demo.test", "wrong", address=HERE)

    assert wrong.value.detail == unknown.value.detail


async def test_an_unknown_account_takes_as_long_as_a_wrong_password(harness: Harness) -> None:
    """Both ask argon2 once."""
    asked: list[str] = []

    class Counting(type(FAST_HASHER)):  # type: ignore[misc]
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            asked.append(str(hash))
            return bool(super().verify(hash, password))

    await harness.add_account("ann@demo.test", "right")
    service = Logins(harness.database, Counting(time_cost=1, memory_cost=8, parallelism=1), sleep=Clock().sleep)

    await fail(service, "ann@demo.test")
    await fail(service, "nobody@demo.test")

    assert len(asked) == 2


async def test_a_disabled_account_lets_nobody_in_even_with_a_password_verified_before(harness: Harness) -> None:
    account_id = await harness.add_account("ann@demo.test", "right")
    await harness.logins.verify("ann@demo.test", "right", address=HERE)
    await harness.disable_account(account_id)

    with pytest.raises(NotAuthenticated):
        await harness.logins.verify("ann@demo.test", "right", address=HERE)


async def test_brute_force_is_slowed_and_then_refused_while_the_owner_gets_in(harness: Harness) -> None:
    account_id = await harness.add_account("ann@demo.test", "right")
    clock = Clock()
    service = Logins(harness.database, FAST_HASHER, clock, clock.sleep)
    await service.verify("ann@demo.test", "right", address=HOME)

    first_twenty = [await fail(service, "ann@demo.test") for _ in range(20)]
    beyond = await fail(service, "ann@demo.test")

    assert first_twenty == [NotAuthenticated] * 20
    assert beyond is RateLimited
    assert clock.waits == sorted(clock.waits)
    assert max(clock.waits) <= 2.0
    waited = len(clock.waits)
    assert (await service.verify("ann@demo.test", "right", address=HOME)).account_id == account_id
    assert len(clock.waits) == waited


async def test_a_right_guess_among_refused_ones_is_refused_like_them(harness: Harness) -> None:
    await harness.add_account("ann@demo.test", "right")
    clock = Clock()
    service = Logins(harness.database, FAST_HASHER, clock, clock.sleep)
    for _ in range(20):
        await fail(service, "ann@demo.test")

    for address in (HERE, ELSEWHERE):
        with pytest.raises(RateLimited) as wrong:
            await service.verify("ann@demo.test", "wrong", address=address)
        with pytest.raises(RateLimited) as right:
            await service.verify("ann@demo.test", "right", address=address)
        assert (right.value.detail, right.value.retry_after_seconds) == (
            wrong.value.detail,
            wrong.value.retry_after_seconds,
        )
    clock.now += throttle.SECONDS_PER_FAILURE + 1
    assert await service.verify("ann@demo.test", "right", address=ELSEWHERE)


class Turns:
    """A sleep that lasts until it is let go, and a count of those who sleep."""

    def __init__(self) -> None:
        self.sleeping = 0
        self.slept: list[float] = []
        self.has_begun = asyncio.Event()
        self._go = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.sleeping += 1
        self.has_begun.set()
        await self._go.wait()
        self.sleeping -= 1

    def let_go(self) -> None:
        self._go.set()


@pytest.mark.parametrize("is_spread", [False, True])
async def test_many_guesses_at_once_are_checked_one_at_a_time(harness: Harness, is_spread: bool) -> None:
    """At one account from many addresses, and at many accounts from one address."""
    await harness.add_account("ann@demo.test", "right")
    turns = Turns()
    service = Logins(harness.database, FAST_HASHER, sleep=turns.sleep)

    def guess(number: int) -> asyncio.Task[type[Exception]]:
        email = f"user{number}@demo.test" if is_spread else "ann@demo.test"
        address = HERE if is_spread else f"192.0.2.{number + 1}"
        return asyncio.create_task(fail(service, email, address=address))

    guesses = [guess(number) for number in range(32)]
    await turns.has_begun.wait()
    for _ in range(200):
        await asyncio.sleep(0)

    assert turns.sleeping == 1
    turns.let_go()
    outcomes = await asyncio.gather(*guesses)
    assert len(turns.slept) == outcomes.count(NotAuthenticated) == 20
    assert outcomes.count(RateLimited) == 12


async def test_a_known_address_is_slowed_down_but_never_refused(harness: Harness) -> None:
    account_id = await harness.add_account("ann@demo.test", "right")
    clock = Clock()
    service = Logins(harness.database, FAST_HASHER, clock, clock.sleep)
    await service.verify("ann@demo.test", "right", address=HOME)

    outcomes = [await fail(service, "ann@demo.test", address=HOME) for _ in range(30)]

    assert set(outcomes) == {NotAuthenticated}
    assert clock.waits[-1] == 2.0
    assert (await service.verify("ann@demo.test", "right", address=HOME)).account_id == account_id


async def test_the_addresses_of_one_ipv6_network_count_together(harness: Harness) -> None:
    clock = Clock()
    service = Logins(harness.database, FAST_HASHER, clock, clock.sleep)

    for number in range(20):
        await fail(service, f"user{number}@demo.test", address=f"2001:db8::{number}")

    assert await fail(service, "another@demo.test", address="2001:db8::ffff") is RateLimited
    assert await fail(service, "another@demo.test", address="2001:db8:0:1::1") is NotAuthenticated


async def test_failures_count_per_address_too_and_are_forgotten_after_ten_minutes(harness: Harness) -> None:
    clock = Clock()
    service = Logins(harness.database, FAST_HASHER, clock, clock.sleep)

    for number in range(20):
        await fail(service, f"user{number}@demo.test")
    assert await fail(service, "another@demo.test") is RateLimited
    assert await fail(service, "another@demo.test", address=ELSEWHERE) is NotAuthenticated
    clock.now += throttle.FAILURE_WINDOW_SECONDS + 1

    assert await fail(service, "another@demo.test") is NotAuthenticated


async def test_a_verified_login_is_known_for_minutes_until_the_password_changes(harness: Harness) -> None:
    account_id = await harness.add_account("ann@demo.test", "old")
    clock = Clock()
    hasher = CountingHasher(time_cost=1, memory_cost=8, parallelism=1)
    service = Logins(harness.database, hasher, clock, clock.sleep)
    await set_password(harness.database, service, account_id, "old")
    await service.verify("ann@demo.test", "old", address=HERE)
    await service.verify("ann@demo.test", "old", address=HERE)

    assert hasher.verified == 1
    await set_password(harness.database, service, account_id, "new")

    assert await fail(service, "ann@demo.test") is NotAuthenticated
    with pytest.raises(NotAuthenticated):
        await service.verify("ann@demo.test", "old", address=HERE)
    assert (await service.verify("ann@demo.test", "new", address=HERE)).account_id == account_id


@pytest.mark.parametrize("email", ["", "'", "%", "\\", "a\0b", "\ud800@demo.test", "x" * 100_000, "ann@demo.test\r\n"])
async def test_odd_names_are_only_wrong(harness: Harness, email: str) -> None:
    await harness.add_account("bob@demo.test")

    assert await fail(harness.logins, email) is NotAuthenticated


@pytest.mark.parametrize("password", ["\udcff", "x" * 100_000, "", "\0"])
async def test_odd_passwords_are_only_wrong(harness: Harness, password: str) -> None:
    await harness.add_account("bob@demo.test")

    with pytest.raises(NotAuthenticated):
        await harness.logins.verify("bob@demo.test", password, address=HERE)


@pytest.mark.parametrize("password", ["", "x" * 1001, "line\nend"])
async def test_a_password_that_no_client_could_send_is_refused(harness: Harness, password: str) -> None:
    with pytest.raises(InvalidRequest):
        await harness.logins.hash(password)


async def test_a_sign_in_does_not_wait_for_work_in_other_threads(harness: Harness) -> None:
    account_id = await harness.add_account("ann@demo.test", "right")
    release = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = [asyncio.create_task(asyncio.to_thread(release.wait)) for _ in range(10)]
    await asyncio.sleep(0)
    try:
        found = await Logins(harness.database, FAST_HASHER).verify("ann@demo.test", "right", address=HERE)
        assert found.account_id == account_id
        assert not any(task.done() for task in blocked)
    finally:
        release.set()
        await asyncio.gather(*blocked)


async def test_logins_beyond_those_that_may_wait_are_refused_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.add_account("ann@demo.test", "right")
    monkeypatch.setattr(hashing, "WAITING_LIMIT", 3)
    service = Logins(harness.database, FAST_HASHER)

    found = await asyncio.gather(*(service.hash("a password") for _ in range(10)), return_exceptions=True)

    assert sum(isinstance(one, RateLimited) for one in found) == 7
    assert sum(isinstance(one, str) for one in found) == 3
    assert isinstance(await service.hash("later"), str)


async def test_one_address_never_takes_all_the_places_in_which_logins_wait(harness: Harness) -> None:
    """An address that is known for many accounts has a turn for each of them."""
    emails = [f"user{number}@demo.test" for number in range(hashing.WAITING_LIMIT_PER_ADDRESS + 5)]
    for email in emails:
        await harness.add_account(email, "right")
    release, service = threading.Event(), Logins(harness.database, FAST_HASHER, sleep=Clock().sleep)
    for email in emails:
        await service.verify(email, "right", address=HERE)
    blocked = [asyncio.create_task(service._hashing.run(release.wait, None)) for _ in range(hashing.HASHERS)]
    try:
        waiting = [asyncio.create_task(fail(service, email, address=HERE)) for email in emails]
        done, _ = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        other = asyncio.create_task(service.verify(emails[0], "right", address=ELSEWHERE))
        changing = [asyncio.create_task(service.hash("new password", address=HERE))]
        await asyncio.wait(changing)
    finally:
        release.set()
    outcomes = await asyncio.gather(*waiting)

    assert all(task.result() is RateLimited for task in done)
    assert outcomes.count(RateLimited) == 5
    assert outcomes.count(NotAuthenticated) == hashing.WAITING_LIMIT_PER_ADDRESS
    assert isinstance(changing[0].exception(), RateLimited)
    assert (await other).account_id
    await asyncio.gather(*blocked)
