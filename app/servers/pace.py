"""Yields to the event loop during long work."""

from __future__ import annotations

import asyncio

TURN_UNITS = 500
"""Units of work in one turn. A unit takes about 10 µs, so a turn takes a few milliseconds."""


class Yielding:
    """Counts work, and lets other tasks run at the end of each turn.

    A unit takes about 10 µs: writing a row to a response, reading an entry of the log, rendering a kilobyte.
    """

    __slots__ = ("_remaining", "_turn_units")

    def __init__(self, turn_units: int = TURN_UNITS) -> None:
        self._turn_units = self._remaining = turn_units

    async def spend(self, units: int) -> None:
        """Count this much work as done, and yield if the turn is over."""
        self._remaining -= units
        if self._remaining <= 0:
            self._remaining = self._turn_units
            await asyncio.sleep(0)
