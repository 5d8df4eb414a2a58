"""Limits parallel attempts per account and per destination server, because a server may hang for minutes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

PLACES = 32
PLACES_PER_ACCOUNT = 2
"""A slow server delays only its own account's mail, and sending leaves capacity for requests."""
PLACES_PER_HOST = 8
"""Accounts on a server that hangs leave capacity for accounts on other servers."""
TURNED_AWAY_SECONDS = 60.0
"""After this time the account is checked again: its server may have changed."""

Key = tuple[str, str]
"""The ids of an account and its submission."""


class DestinationLimiter:
    """Slots in use, and accounts that were turned away because their server has none left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: dict[Key, str] = {}
        """Submission in progress → its host, or "" when it needs no server."""
        self._turned_away: dict[str, tuple[str, float]] = {}
        """Account → its host, and the time at which this entry expires."""

    @property
    def are_full(self) -> bool:
        return len(self._taken) >= PLACES

    def shut_out(self) -> set[str]:
        """Accounts for which no further attempt may start now."""
        now = self._clock()
        self._turned_away = {id_: entry for id_, entry in self._turned_away.items() if entry[1] > now}
        full = {host for host, count in Counter(self._taken.values()).items() if host and count >= PLACES_PER_HOST}
        busy = Counter(account_id for account_id, _ in self._taken)
        return {id_ for id_, count in busy.items() if count >= PLACES_PER_ACCOUNT} | {
            id_ for id_, (host, _) in self._turned_away.items() if host in full
        }

    def may_take(self, key: Key) -> bool:
        """Whether a slot may be free; checked before the host is looked up."""
        return not self.are_full and key not in self._taken and key[0] not in self.shut_out()

    def take(self, key: Key, host: str) -> bool:
        """Take a slot; return False when the host has none left."""
        if host and sum(taken == host for taken in self._taken.values()) >= PLACES_PER_HOST:
            self._turned_away[key[0]] = (host, self._clock() + TURNED_AWAY_SECONDS)
            return False
        self._taken[key] = host
        return True

    def leave(self, key: Key) -> None:
        del self._taken[key]
