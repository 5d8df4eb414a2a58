"""Leaving alone for a while whatever has just failed; then one tries it, for all who wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TRIAL_SECONDS = 20.0
"""How long the others wait for the attempt in progress, if it reports no result."""
LIMIT = 10_000
"""Names that are remembered; above it, those whose pause is over are forgotten."""


@dataclass(slots=True)
class _Pause:
    delays: Iterator[float]
    until: float
    is_tried: bool = False


class Backoff:
    """Backoff by name, longer after each failure in a row. `delays` makes their lengths in seconds, without end."""

    def __init__(self, delays: Callable[[], Iterator[float]], clock: Callable[[], float] = time.monotonic) -> None:
        self._delays = delays
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}

    def __len__(self) -> int:
        return len(self._pauses)

    def is_paused(self, name: str) -> bool:
        pause = self._pauses.get(name)
        return pause is not None and self._clock() < pause.until

    def begin(self, name: str) -> None:
        """Someone tries it now: where it failed before, the others wait for what comes of that."""
        if (pause := self._pauses.get(name)) is not None:
            pause.until, pause.is_tried = self._clock() + TRIAL_SECONDS, True

    def failed(self, name: str) -> None:
        """Many that fail at once count once."""
        now = self._clock()
        pause = self._pauses.get(name) or self._add(name, now)
        if pause.is_tried or now >= pause.until:
            pause.until, pause.is_tried = now + next(pause.delays), False

    def succeeded(self, name: str) -> None:
        self._pauses.pop(name, None)

    def _add(self, name: str, now: float) -> _Pause:
        if len(self._pauses) >= LIMIT:
            self._pauses = {known: one for known, one in self._pauses.items() if now < one.until}
        pause = self._pauses[name] = _Pause(self._delays(), now)
        return pause
