"""Long work in the event loop, in pieces: others have their turn after each."""

from __future__ import annotations

import asyncio

TURN_UNITS = 500
"""Units of work in one turn. A unit takes some 10 µs, so that a turn takes a few milliseconds."""


class Yielding:
    """Counts work, and lets other tasks run whenever a turn is used up.

    A unit is what takes about 10 µs: a row written to an answer, an entry of the log read, a kilobyte rendered.
    """

    __slots__ = ("_left", "_turn_units")

    def __init__(self, turn_units: int = TURN_UNITS) -> None:
        self._turn_units = self._left = turn_units

    async def spend(self, units: int) -> None:
        """Say that this much work is done."""
        self._left -= units
        if self._left <= 0:
            self._left = self._turn_units
            await asyncio.sleep(0)
