"""Who is attempted at the same time: a few of one account, and not all at one server, which may hang for minutes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

PLACES = 32
PLACES_PER_ACCOUNT = 2
"""So that a slow server holds up its own account's mail alone, and sending leaves room for answering."""
PLACES_PER_HOST = 8
"""So that many accounts on one server that hangs leave room for those on others."""
TURNED_AWAY_SECONDS = 60.0
"""After that an account is read again: it may have another server by now."""

Key = tuple[str, str]
"""The ids of an account and its submission."""


class DestinationLimiter:
    """The places that are taken, and the accounts that were turned away because their server has no more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: dict[Key, str] = {}
        """And the host that each is at; "" where it is at none."""
        self._turned_away: dict[str, tuple[str, float]] = {}
        """Account → its host, and until when that is believed."""

    @property
    def are_full(self) -> bool:
        return len(self._taken) >= PLACES

    def shut_out(self) -> set[str]:
        """The accounts of which nothing more may begin now."""
        now = self._clock()
        self._turned_away = {one: known for one, known in self._turned_away.items() if known[1] > now}
        full = {host for host, count in Counter(self._taken.values()).items() if host and count >= PLACES_PER_HOST}
        busy = Counter(account_id for account_id, _ in self._taken)
        return {one for one, count in busy.items() if count >= PLACES_PER_ACCOUNT} | {
            one for one, (host, _) in self._turned_away.items() if host in full
        }

    def may_take(self, key: Key) -> bool:
        """Whether it is worth asking which host this is for."""
        return not self.are_full and key not in self._taken and key[0] not in self.shut_out()

    def take(self, key: Key, host: str) -> bool:
        """Take a place; False where the host has none left."""
        if host and sum(text == host for text in self._taken.values()) >= PLACES_PER_HOST:
            self._turned_away[key[0]] = (host, self._clock() + TURNED_AWAY_SECONDS)
            return False
        self._taken[key] = host
        return True

    def leave(self, key: Key) -> None:
        del self._taken[key]
