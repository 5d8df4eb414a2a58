"""Who follows an account, in whichever process."""

from __future__ import annotations

import asyncio

from app.cluster import followers as module
from app.cluster.bus import LocalBus, listening
from app.cluster.followers import FOLLOWED_SECONDS, Followers


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_call_counts_for_ten_minutes() -> None:
    clock = Clock()
    followers = Followers(LocalBus(), clock)
    assert not followers.is_followed("acc_1")

    followers.note("acc_1")
    clock.now += FOLLOWED_SECONDS - 1
    assert followers.is_followed("acc_1")
    assert not followers.is_followed("acc_2")
    assert followers.seconds_followed("acc_1") == FOLLOWED_SECONDS - 1

    clock.now += 1
    assert not followers.is_followed("acc_1")
    followers.note("acc_1")
    assert followers.seconds_followed("acc_1") == 0.0


async def test_whoever_waits_for_events_follows() -> None:
    clock, bus = Clock(), LocalBus()
    followers = Followers(bus, clock)

    with listening(bus, "acc_1", "submissions"):
        task = asyncio.create_task(followers.run())
        await asyncio.sleep(0)
        task.cancel()

    assert followers.is_followed("acc_1")
    assert not followers.is_followed("submissions")


def test_another_process_hears_of_it_by_the_bus_once_a_minute() -> None:
    clock, bus = Clock(), LocalBus()
    here, there = Followers(bus, clock), Followers(bus, clock)
    there.hear("acc_1")
    there.hear("acc_1")

    here.note("acc_1")
    here.note("acc_2")
    assert there.is_followed("acc_1")
    assert not there.is_followed("acc_2")

    clock.now += module.TELL_SECONDS - 1
    here.note("acc_1")
    assert there.seconds_followed("acc_1") == module.TELL_SECONDS - 1
    clock.now += FOLLOWED_SECONDS - module.TELL_SECONDS + 1
    assert not there.is_followed("acc_1")
    here.note("acc_1")
    assert there.is_followed("acc_1")
