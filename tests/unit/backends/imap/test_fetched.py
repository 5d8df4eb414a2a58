"""FETCH responses are read in slices of a bounded size."""

from __future__ import annotations

import asyncio

from app.backends.imap.fetched import PARSED_BYTES_AT_ONCE, in_slices
from app.wire.imap.framing import Response


async def test_others_have_their_turn_after_a_bounded_number_of_bytes() -> None:
    responses = [Response((b"* 1 FETCH (UID 1 X %b)" % (b"x" * size),)) for size in [100] * 500 + [40_000] * 5]
    turns = [0]

    async def count_turns() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    others = asyncio.create_task(count_turns())
    taken = []
    async for response in in_slices(responses):
        taken.append(response)
        turns[-1] += len(response.text)
    others.cancel()

    assert taken == responses
    assert max(turns) < PARSED_BYTES_AT_ONCE + 40_000
    assert sum(size > 0 for size in turns) >= len(responses) * 100 // PARSED_BYTES_AT_ONCE + 5
