"""What a mail server answers by ending the connection: asked alone at first, then not at all for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

REST_SECONDS = 3_600.0
LIMIT = 10_000
LIST_STATUS = "\0LIST-STATUS"
"""Stands for that command beside the names of mailboxes."""


class QuarantinedMailboxes:
    """Of one account: names of mailboxes about which the server is not to be asked, and those of which it is unsure.

    A suspect was asked about when a connection was lost. It is asked about once more, alone; if that costs a connection
    too, it is avoided for REST_SECONDS.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._suspects: set[str] = set()
        self._until: dict[str, float] = {}

    def __contains__(self, name: str) -> bool:
        return self._until.get(name, 0.0) > self._clock()

    @property
    def suspects(self) -> frozenset[str]:
        return frozenset(self._suspects)

    def note_loss(self, names: Iterable[str]) -> None:
        """A connection was lost while these were asked about."""
        found = list(names)[:LIMIT]
        if len(found) == 1 and found[0] in self._suspects:
            self._suspects.discard(found[0])
            self._until[found[0]] = self._clock() + REST_SECONDS
        elif len(self._suspects) + len(found) <= LIMIT:
            self._suspects.update(found)

    def clear(self, name: str) -> None:
        """The server answered about it."""
        self._suspects.discard(name)
        self._until.pop(name, None)
