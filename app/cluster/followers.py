"""Accounts that are followed: by sessions that wait for events, and by callers of the last ten minutes.

A followed account is checked every few seconds, other accounts less often. The process of a follower notifies the
other processes by the bus.
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
"""How often this process checks who waits for events."""
_ACCOUNT_PREFIX = "acc_"


def followed_topic(account_id: str) -> str:
    """Return the bus topic that is poked while an account is followed."""
    return f"followed:{account_id}"


@dataclass(slots=True)
class _Following:
    """When an account was first and last followed, and when other processes were notified."""

    begun_at: float
    last_at: float
    told_at: float


class Followers:
    """The followed accounts; one instance per process."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._following: dict[str, _Following] = {}

    def note(self, account_id: str) -> None:
        """Record that an account is followed, and notify the other processes."""
        following = self._note(account_id)
        if following.told_at + TELL_SECONDS <= self._clock():
            following.told_at = self._clock()
            self._bus.poke(followed_topic(account_id))

    def is_followed(self, account_id: str) -> bool:
        following = self._following.get(account_id)
        return following is not None and self._clock() < following.last_at + FOLLOWED_SECONDS

    def seconds_followed(self, account_id: str) -> float:
        """Return how long the account has been followed; 0.0 if it is not."""
        return self._clock() - self._following[account_id].begun_at if self.is_followed(account_id) else 0.0

    def hear(self, account_id: str) -> None:
        """Receive notices of other processes about an account from now on. Safe to repeat."""
        self._bus.listen(_NoticeWaiter(self, account_id), followed_topic(account_id))

    async def run(self) -> None:
        """Record the accounts that sessions wait for, forever."""
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


class _NoticeWaiter(Waiter):
    """A waiter that records a follower when it is poked. Waiters of one account are equal, so that only one listens."""

    __slots__ = ("_account_id", "_followers")

    def __init__(self, followers: Followers, account_id: str) -> None:
        super().__init__()
        self._followers = followers
        self._account_id = account_id

    def poke(self, topic: str) -> None:  # noqa: ARG002 - the signature of a waiter
        self._followers._note(self._account_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _NoticeWaiter) and (other._account_id, other._followers) == (
            self._account_id,
            self._followers,
        )

    def __hash__(self) -> int:
        return hash(self._account_id)
