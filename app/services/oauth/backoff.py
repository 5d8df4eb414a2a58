"""Backoff by name: after a failure, one caller tries again while the others wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TRIAL_SECONDS = 20.0
"""How long the others wait for the attempt in progress, if it reports no result."""
LIMIT = 10_000
"""The most names that are stored; above it, those whose delay is over are dropped."""


@dataclass(slots=True)
class _Pause:
    delays: Iterator[float]
    until: float
    is_tried: bool = False


class Backoff:
    """Backoff by name, longer after each failure in a row. `delays` yields the delays in seconds, without end."""

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
        """Start an attempt. If the last one failed, the others wait for the result of this one."""
        if (pause := self._pauses.get(name)) is not None:
            pause.until, pause.is_tried = self._clock() + TRIAL_SECONDS, True

    def failed(self, name: str) -> None:
        """Count a failure. Concurrent failures count once."""
        now = self._clock()
        pause = self._pauses.get(name) or self._add(name, now)
        if pause.is_tried or now >= pause.until:
            pause.until, pause.is_tried = now + next(pause.delays), False

    def succeeded(self, name: str) -> None:
        self._pauses.pop(name, None)

    def _add(self, name: str, now: float) -> _Pause:
        if len(self._pauses) >= LIMIT:
            self._pauses = {name_: pause_ for name_, pause_ in self._pauses.items() if now < pause_.until}
        pause = self._pauses[name] = _Pause(self._delays(), now)
        return pause
