"""When a message that a POP3 server refused is asked for again."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.mail.backoff import spread
from app.mailstore.pop3_ledger import Key

SHORTEST_SECONDS, LONGEST_SECONDS = 60.0, 6 * 3600.0
LIMIT = 10_000
"""Messages that are remembered; any beyond are asked for with each poll."""


class Patience:
    """Each refusal of a message doubles the time until it is asked for again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[Key, tuple[float, float]] = {}
        """Key → (when it is due, how long the wait is)."""

    def is_due(self, key: Key) -> bool:
        """Whether to ask for a message now."""
        due_at, _ = self._waits.get(key, (0.0, 0.0))
        return due_at <= self._clock()

    def note(self, key: Key, *, is_refused: bool) -> None:
        """The server refused a message, or did not."""
        if not is_refused:
            self._waits.pop(key, None)
        elif key in self._waits or len(self._waits) < LIMIT:
            _, seconds = self._waits.get(key, (0.0, 0.0))
            seconds = min(LONGEST_SECONDS, max(SHORTEST_SECONDS, 2 * seconds))
            self._waits[key] = (self._clock() + spread(seconds), seconds)
