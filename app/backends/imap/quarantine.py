"""Quarantines mailboxes whose STATUS makes the mail server close the connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

REST_SECONDS = 3_600.0
LIMIT = 10_000
LIST_STATUS = "\0LIST-STATUS"
"""Represents the LIST-STATUS command among mailbox names."""


class QuarantinedMailboxes:
    """The quarantined and the suspect mailboxes of one account, by name.

    A suspect is a mailbox whose STATUS was requested when a connection was lost. It is requested once more, by itself;
    if that loses the connection too, the mailbox is quarantined for REST_SECONDS.
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
        """Record that a connection was lost while the STATUS of these mailboxes was requested."""
        requested = list(names)[:LIMIT]
        if len(requested) == 1 and requested[0] in self._suspects:
            self._suspects.discard(requested[0])
            self._until[requested[0]] = self._clock() + REST_SECONDS
        elif len(self._suspects) + len(requested) <= LIMIT:
            self._suspects.update(requested)

    def clear(self, name: str) -> None:
        """Record that the server returned the STATUS of a mailbox."""
        self._suspects.discard(name)
        self._until.pop(name, None)
