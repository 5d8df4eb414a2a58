"""The bus wakes; the log decides. A lost poke costs a subscriber a moment, never an event.

Topics are short strings: an account's id for its log, `submissions` for the delivery queue, `accounts` for the list
of accounts itself.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

SUBMISSIONS = "submissions"
ACCOUNTS = "accounts"


class Waiter:
    """One listener: any number of pokes between two waits are one."""

    __slots__ = ("_event", "topics")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.topics: set[str] = set()
        """The topics poked since the last wait."""

    def poke(self, topic: str) -> None:
        self.topics.add(topic)
        self._event.set()

    async def wait(self, timeout_seconds: float | None = None) -> set[str]:
        """The topics poked since the last call; empty after the time-out."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        self._event.clear()
        topics, self.topics = self.topics, set()
        return topics


class Bus(Protocol):
    def poke(self, topic: str) -> None:
        """Wake whoever waits for the topic. Never blocks, never fails."""
        ...

    def listen(self, waiter: Waiter, topic: str) -> None: ...

    def leave(self, waiter: Waiter, topic: str) -> None: ...


class LocalBus:
    """A Bus within one process."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)

    def poke(self, topic: str) -> None:
        for waiter in self._waiters.get(topic, ()):
            waiter.poke(topic)

    def listen(self, waiter: Waiter, topic: str) -> None:
        self._waiters[topic].add(waiter)

    def leave(self, waiter: Waiter, topic: str) -> None:
        waiters = self._waiters.get(topic)
        if waiters is None:
            return
        waiters.discard(waiter)
        if not waiters:
            del self._waiters[topic]


@contextmanager
def listening(bus: Bus, *topics: str) -> Iterator[Waiter]:
    """A waiter for these topics, from before the block reads what it will wait for."""
    waiter = Waiter()
    for topic in topics:
        bus.listen(waiter, topic)
    try:
        yield waiter
    finally:
        for topic in topics:
            bus.leave(waiter, topic)
