"""Shares the event loop between tasks that do long work in slices."""

from __future__ import annotations

import asyncio
from collections import deque

AT_ONCE = 4
"""Slices in one turn of the event loop. A slice takes a millisecond or two."""


class Turns:
    """A queue of waiting tasks; a few of them continue in each turn of the event loop, in order."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def next(self) -> None:
        """Return in a later turn of the event loop, with at most `at_once` others."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._resume)
        self._waiting.append(turn)
        await turn

    def _resume(self) -> None:
        for _ in range(min(self._at_once, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._resume)
