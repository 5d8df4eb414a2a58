"""The bus: who is woken, in how many turns of the event loop, and what it remembers of an account."""

from __future__ import annotations

import asyncio

from app.cluster.bus import WAKE_AT_ONCE, LocalBus, TopicListener, Waiter, listening


async def test_many_waiters_are_woken_in_several_turns_of_the_event_loop() -> None:
    bus = LocalBus()
    waiters = [Waiter() for _ in range(3 * WAKE_AT_ONCE + 1)]
    for waiter in waiters:
        bus.listen(waiter, "acc_a")

    bus.poke("acc_a", 1)
    woken: list[int] = []
    while not woken or woken[-1] < len(waiters):
        woken.append(sum(bool(waiter.topics) for waiter in waiters))
        await asyncio.sleep(0)

    assert woken == [WAKE_AT_ONCE, 2 * WAKE_AT_ONCE, 3 * WAKE_AT_ONCE, len(waiters)]


async def test_a_waiter_that_leaves_before_its_turn_is_not_woken() -> None:
    bus = LocalBus()
    waiters = [Waiter() for _ in range(2 * WAKE_AT_ONCE)]
    for waiter in waiters:
        bus.listen(waiter, "acc_a")

    bus.poke("acc_a")
    late = [waiter for waiter in waiters if not waiter.topics]
    bus.leave(late[0], "acc_a")
    for _ in range(3):
        await asyncio.sleep(0)

    assert [bool(waiter.topics) for waiter in late] == [False] + [True] * (len(late) - 1)


async def test_the_last_number_of_an_account_never_goes_back() -> None:
    bus = LocalBus()
    with listening(bus, "acc_a"):
        bus.poke("acc_a", 7)
        bus.poke("acc_a", 5)
        bus.note("acc_a", 6)

        assert bus.last("acc_a") == 7


async def test_a_poke_without_a_number_makes_the_followers_read() -> None:
    bus = LocalBus()
    with listening(bus, "acc_a"):
        bus.poke("acc_a", 7)
        bus.poke("acc_a")

        assert bus.last("acc_a") is None


async def test_nothing_is_remembered_of_an_account_that_nobody_follows() -> None:
    bus = LocalBus()
    bus.poke("acc_a", 3)
    with listening(bus, "acc_a"):
        bus.poke("acc_a", 4)
    bus.note("acc_a", 5)

    assert bus.last("acc_a") is None
    assert bus.heard() == {}


async def test_a_listener_hears_the_topics_of_its_newest_list_alone() -> None:
    bus = LocalBus()
    listener = TopicListener(bus, "acc_a", "acc_b")
    listener.listen_to({"acc_b", "acc_c"})
    for topic in ("acc_a", "acc_b", "acc_c"):
        bus.poke(topic)

    assert await listener.wait(0) == {"acc_b", "acc_c"}
