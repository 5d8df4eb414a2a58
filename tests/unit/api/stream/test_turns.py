"""Long work in slices: how many tasks go on in one turn of the event loop."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from app.api.stream.turns import Turns


async def test_a_few_tasks_go_on_in_each_turn_in_the_order_of_their_asking() -> None:
    turns = Turns(at_once=2)
    order: list[int] = []

    async def work(number: int) -> None:
        await turns.next()
        order.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(6)]
    counts: list[int] = []
    while not counts or counts[-1] < len(tasks):
        await asyncio.sleep(0)
        counts.append(len(order))

    assert order == list(range(6))
    assert max(after - before for before, after in pairwise(counts)) == 2


async def test_a_task_that_was_cancelled_takes_no_turn_from_the_others() -> None:
    turns = Turns(at_once=1)
    tasks = [asyncio.create_task(turns.next()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()

    done, _ = await asyncio.wait(tasks, timeout=5)

    assert len(done) == 3
    assert [task.cancelled() for task in tasks] == [True, False, False]
