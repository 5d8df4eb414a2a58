"""Sorts many values in slices: merges sorted runs and frees them on the way."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator, Sequence

from app.servers.pace import Yielding

RUN_VALUES = 250
"""Values of a run, which is sorted in one step."""
RUN_UNITS = 100
"""Work (see `Yielding`) of sorting or merging this many values."""

Key = tuple[int | bytes, ...]


async def merged(runs: Sequence[list[Key]], pace: Yielding) -> AsyncIterator[Key]:
    """Yield the keys of sorted runs in order, and empty the runs: freeing 146,000 keys at once takes 20 ms."""
    for place, key in enumerate(heapq.merge(*map(_drained, runs)), 1):
        yield key
        if place % RUN_VALUES == 0:
            await pace.spend(RUN_UNITS)


def _drained(run: list[Key]) -> Iterator[Key]:
    run.reverse()
    while run:
        yield run.pop()
