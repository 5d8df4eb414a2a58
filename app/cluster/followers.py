"""Which accounts have followers: sessions that wait for events, and callers of the last ten minutes.

An account that somebody follows is looked at every few seconds, one that nobody follows more rarely. The process that
a follower is connected to tells the others by the bus.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.cluster.bus import Bus, Waiter

FOLLOWED_SECONDS = 600.0
"""How long an account counts as followed after a call, or after its last subscriber left."""
TELL_SECONDS = 60.0
"""How often a process announces it to the others."""
LOOK_SECONDS = 2.0
"""How often this process looks who waits for events."""
_ACCOUNT_PREFIX = "acc_"


def followed_topic(account_id: str) -> str:
    """The topic of the bus that is poked while somebody follows an account."""
    return f"followed:{account_id}"


@dataclass(slots=True)
class _Following:
    """When an account was first and last followed, and when other processes were notified."""

    begun_at: float
    last_at: float
    told_at: float


class Followers:
    """One for a process."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._following: dict[str, _Following] = {}

    def note(self, account_id: str) -> None:
        """Somebody called, or waits for events: tell the other processes too."""
        following = self._note(account_id)
        if following.told_at + TELL_SECONDS <= self._clock():
            following.told_at = self._clock()
            self._bus.poke(followed_topic(account_id))

    def is_followed(self, account_id: str) -> bool:
        following = self._following.get(account_id)
        return following is not None and self._clock() < following.last_at + FOLLOWED_SECONDS

    def seconds_followed(self, account_id: str) -> float:
        """For how long somebody has followed the account; 0.0 where nobody does."""
        return self._clock() - self._following[account_id].begun_at if self.is_followed(account_id) else 0.0

    def hear(self, account_id: str) -> None:
        """Receive notices of other processes about an account from now on. Safe to repeat."""
        self._bus.listen(_Ear(self, account_id), followed_topic(account_id))

    async def run(self) -> None:
        """Note who waits for events, for ever."""
        while True:
            for topic in self._bus.heard():
                if topic.startswith(_ACCOUNT_PREFIX):
                    self.note(topic)
            await asyncio.sleep(LOOK_SECONDS)

    def _note(self, account_id: str) -> _Following:
        now = self._clock()
        following = self._following.get(account_id)
        if following is None or not self.is_followed(account_id):
            following = self._following[account_id] = _Following(now, now, now - TELL_SECONDS)
        following.last_at = now
        return following


class _Ear(Waiter):
    """A waiter of the bus that notes a follower as soon as it is poked. Those of one account are equal: one listens."""

    __slots__ = ("_account_id", "_followers")

    def __init__(self, followers: Followers, account_id: str) -> None:
        super().__init__()
        self._followers = followers
        self._account_id = account_id

    def poke(self, topic: str) -> None:  # noqa: ARG002 - the signature of a waiter
        self._followers._note(self._account_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ear) and (other._account_id, other._followers) == (self._account_id, self._followers)

    def __hash__(self) -> int:
        return hash(self._account_id)
