"""The bus wakes waiters; the log has the data. A lost poke delays an event until the next read, and never loses it.

Topics are short strings: an account's id for its log, `submissions` for the delivery queue, `accounts` for the list
of accounts, `drain` for the end of the process.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Protocol

SUBMISSIONS = "submissions"
ACCOUNTS = "accounts"
ACCESS = "access"
"""Poked after each commit that revokes or changes a token, a password or a right."""
ORIGINS = "origins"
"""Poked after each commit that creates a token for web origins."""
DRAIN = "drain"

WAKE_AT_ONCE = 50
"""Waiters woken in one turn of the event loop; the others follow in the next turns, so that I/O continues between."""


class Waiter:
    """One listener. Several pokes between two waits count as one."""

    __slots__ = ("_event", "topics")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.topics: set[str] = set()
        """The topics poked since the last wait."""

    def poke(self, topic: str) -> None:
        self.topics.add(topic)
        self._event.set()

    async def wait(self, timeout_seconds: float | None = None) -> set[str]:
        """Return the topics poked since the last call; empty after the time-out."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        self._event.clear()
        topics, self.topics = self.topics, set()
        return topics


class CallbackWaiter(Waiter):
    """A waiter that calls `forget` during the poke, before anything else runs, to clear a cache."""

    __slots__ = ("_forget",)

    def __init__(self, forget: Callable[[], None]) -> None:
        super().__init__()
        self._forget = forget

    def poke(self, topic: str) -> None:  # noqa: ARG002 - every topic that it listens to means the same
        self._forget()


class Bus(Protocol):
    def poke(self, topic: str, seq: int | None = None) -> None:
        """Wake all waiters of a topic. Never blocks, never fails.

        `seq` is the number of the account's last event; without it, the waiters read the account's row.
        """
        ...

    def listen(self, waiter: Waiter, topic: str) -> None: ...

    def leave(self, waiter: Waiter, topic: str) -> None: ...

    def last(self, topic: str) -> int | None:
        """Return the number of the last event of an account that has a listener; None if it must be read."""
        ...

    def note(self, topic: str, seq: int) -> None:
        """Store the number that a read returned, unless a poke has set one."""
        ...

    def heard(self) -> Mapping[str, int | None]:
        """Return every topic that has a waiter, and its last number."""
        ...


class LocalBus:
    """A Bus within one process."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._last: dict[str, int] = {}

    def poke(self, topic: str, seq: int | None = None) -> None:
        waiters = self._waiters.get(topic)
        if waiters is None:
            return
        if seq is None:
            self._last.pop(topic, None)
        else:
            self._last[topic] = max(seq, self._last.get(topic, 0))
        if len(waiters) <= WAKE_AT_ONCE:
            for waiter in waiters:
                waiter.poke(topic)
        else:
            self._wake_some(topic, iter(tuple(waiters)))

    def _wake_some(self, topic: str, waiters: Iterator[Waiter]) -> None:
        """Wake the next few waiters and leave the others to the next turn; skip waiters that have left."""
        batch = tuple(islice(waiters, WAKE_AT_ONCE))
        listening = self._waiters.get(topic, ())
        for waiter in batch:
            if waiter in listening:
                waiter.poke(topic)
        if len(batch) == WAKE_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._wake_some, topic, waiters)

    def listen(self, waiter: Waiter, topic: str) -> None:
        self._waiters[topic].add(waiter)

    def leave(self, waiter: Waiter, topic: str) -> None:
        waiters = self._waiters.get(topic)
        if waiters is None:
            return
        waiters.discard(waiter)
        if not waiters:
            del self._waiters[topic]
            self._last.pop(topic, None)

    def last(self, topic: str) -> int | None:
        return self._last.get(topic)

    def note(self, topic: str, seq: int) -> None:
        if topic in self._waiters:
            self._last.setdefault(topic, seq)

    def heard(self) -> Mapping[str, int | None]:
        return {topic: self._last.get(topic) for topic in self._waiters}


class TopicListener(Waiter):
    """A waiter whose topics change while it listens."""

    __slots__ = ("_bus", "_listened")

    def __init__(self, bus: Bus, *topics: str) -> None:
        super().__init__()
        self._bus = bus
        self._listened: Set[str] = frozenset()
        self.listen_to(frozenset(topics))

    def listen_to(self, topics: Set[str]) -> None:
        """Listen to exactly these topics."""
        for topic in topics - self._listened:
            self._bus.listen(self, topic)
        for topic in self._listened - topics:
            self._bus.leave(self, topic)
        self._listened = frozenset(topics)


@contextmanager
def listening(bus: Bus, *topics: str) -> Iterator[Waiter]:
    """Listen to these topics from the start of the block, before it reads the data that it will wait for."""
    listener = TopicListener(bus, *topics)
    try:
        yield listener
    finally:
        listener.listen_to(frozenset())
