"""Sorting many values in slices: runs that are sorted by themselves are merged, and freed on the way."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator, Sequence

from app.servers.pace import Yielding

RUN_VALUES = 250
"""Values of a run, which is sorted at once."""
RUN_UNITS = 100
"""Work (see `Yielding`) of sorting or merging so many values."""

Key = tuple[int | bytes, ...]


async def merged(runs: Sequence[list[Key]], pace: Yielding) -> AsyncIterator[Key]:
    """The keys of sorted runs in order. The runs are empty afterwards: to free 146,000 keys at once takes 20 ms."""
    for place, key in enumerate(heapq.merge(*map(_drained, runs)), 1):
        yield key
        if place % RUN_VALUES == 0:
            await pace.spend(RUN_UNITS)


def _drained(run: list[Key]) -> Iterator[Key]:
    run.reverse()
    while run:
        yield run.pop()
