"""Backoff for messages that a POP3 server refused."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.mail.backoff import spread
from app.mailstore.pop3_ledger import Key

SHORTEST_SECONDS, LONGEST_SECONDS = 60.0, 6 * 3600.0
LIMIT = 10_000
"""Messages that are remembered; further ones are requested in each poll."""


class Patience:
    """Doubles the time until the next attempt with each refusal of a message."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[Key, tuple[float, float]] = {}
        """Key → (when it is due, how long the wait is)."""

    def is_due(self, key: Key) -> bool:
        """Whether to request a message now."""
        due_at, _ = self._waits.get(key, (0.0, 0.0))
        return due_at <= self._clock()

    def note(self, key: Key, *, is_refused: bool) -> None:
        """Record whether the server refused a message."""
        if not is_refused:
            self._waits.pop(key, None)
        elif key in self._waits or len(self._waits) < LIMIT:
            _, seconds = self._waits.get(key, (0.0, 0.0))
            seconds = min(LONGEST_SECONDS, max(SHORTEST_SECONDS, 2 * seconds))
            self._waits[key] = (self._clock() + spread(seconds), seconds)
