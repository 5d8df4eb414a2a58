"""Long work lets others run after each turn of bounded work."""

from __future__ import annotations

import asyncio

from app.servers.pace import Yielding


async def test_others_run_after_each_turn_of_work() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(tick())
    pace, turns = Yielding(10), list[int]()
    for _ in range(100):
        await pace.spend(1)
        turns.append(ticks)
    other.cancel()

    assert [turns.count(number) for number in range(1, 10)] == [10] * 9
