from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from app.workers.limiters import Limiter


async def enters(gate: Limiter, host: str) -> bool:
    """Whether one more of this host is let in at once."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(0.02):
                await stack.enter_async_context(gate.entered(host))
        except TimeoutError:
            return False
        return True


async def test_accounts_of_one_host_leave_room_for_those_of_another() -> None:
    gate = Limiter(3, 2, 60.0)
    async with gate.entered("hung"), gate.entered("hung"):
        assert not await enters(gate, "hung")
        assert await enters(gate, "good")
    assert await enters(gate, "hung")


async def test_no_more_than_a_few_are_in_at_once() -> None:
    gate = Limiter(2, 2, 60.0)
    async with gate.entered("one"), gate.entered("two"):
        assert not await enters(gate, "three")
    assert await enters(gate, "three")


async def test_who_waits_long_for_an_answer_makes_room_once() -> None:
    gate = Limiter(1, 1, 0.01)
    async with gate.entered("hung"):
        await asyncio.sleep(0.02)
        async with gate.entered("good"):
            pass
    quick = Limiter(1, 2, 60.0)
    async with quick.entered("one"):
        pass
    async with quick.entered("one"):
        assert not await enters(quick, "one")
