"""Unread and total messages of mailboxes, read at most once a second for all followers of an account."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from app.cause import detached
from app.cluster.bus import Bus, LocalBus, Waiter
from app.errors import GatewayError
from app.mail.types import AccountId, MailboxId
from app.services.access.callers import Caller, Scope

MERGE_SECONDS = 1.0
"""Changes of an account's counts within this time are sent together."""
RETRY_SECONDS = 2.0
"""The delay after a read that the database did not answer."""
READS_AT_ONCE = 4
"""Accounts whose counts are read at the same time."""

Counted = tuple[int, int]
"""Unread and total messages of a mailbox."""
Sight = frozenset[str] | None
"""Ids of the visible mailboxes; None: all."""
Sleep = Callable[[float], Awaitable[None]]


class CountsReader(Protocol):
    async def counts(self, account_id: AccountId) -> Mapping[MailboxId, Counted]:
        """Return the counts of an account's mailboxes."""
        ...


def counts_topic(account_id: AccountId) -> str:
    """Return the topic that is poked when the counts of an account changed."""
    return f"counts {account_id}"


def seen_by(caller: Caller, wanted: Sight) -> Sight:
    """Return those of the wanted mailboxes whose counts a caller may see."""
    if Scope.MAIL_READ not in caller.scopes:
        return frozenset()
    if wanted is None:
        return caller.mailbox_ids
    return wanted if caller.mailbox_ids is None else wanted & caller.mailbox_ids


@dataclass(slots=True, eq=False)
class CountsSnapshot:
    """The counts of an account from one read. `changed`: since the previous snapshot."""

    account_id: AccountId
    number: int
    counts: Mapping[MailboxId, Counted]
    changed: frozenset[MailboxId]
    frames: dict[object, bytes] = field(default_factory=dict)
    """Encodings, cached by the code that sends them."""


@dataclass(frozen=True, slots=True)
class CountsNews:
    """The counts that a follower was not sent yet. `is_whole`: all visible mailboxes, not only those that changed."""

    snapshot: CountsSnapshot
    sight: Sight
    is_whole: bool

    def counts(self) -> list[tuple[MailboxId, Counted]]:
        """Return (id, counts) in the order of the mailboxes' paths."""
        ids = self.snapshot.counts if self.is_whole else self.snapshot.changed
        return [
            (id_, counted)
            for id_, counted in self.snapshot.counts.items()
            if id_ in ids and (self.sight is None or id_ in self.sight)
        ]


class _CountsCache(Waiter):
    """The newest counts of one account. A poke makes it read, at most once in `MERGE_SECONDS`."""

    def __init__(self, account_id: AccountId, counts: Counts) -> None:
        super().__init__()
        self.account_id = account_id
        self.snapshot: CountsSnapshot | None = None
        self.watches = 0
        self._counts = counts
        self._is_stale = False
        self._task: asyncio.Task[None] | None = None

    def poke(self, topic: str) -> None:  # noqa: ARG002 - it listens to one topic
        self._is_stale = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read_and_rest(), context=detached())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _read_and_rest(self) -> None:
        """Read until a delay passes without a poke."""
        try:
            while self._is_stale:
                self._is_stale = False
                seconds = MERGE_SECONDS
                try:
                    self._take(await self._counts.read(self.account_id))
                except GatewayError:
                    self._is_stale = True
                    seconds = RETRY_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - spreads the retries
                await self._counts.sleep(seconds)
        finally:
            self._task = None

    def _take(self, counts: Mapping[MailboxId, Counted]) -> None:
        before = self.snapshot
        known = before.counts if before is not None else {}
        changed = frozenset(id_ for id_, counted in counts.items() if known.get(id_) != counted)
        if before is None or changed or len(known) != len(counts):
            number = 1 if before is None else before.number + 1
            self.snapshot = CountsSnapshot(self.account_id, number, counts, changed)
            self._counts.news.poke(counts_topic(self.account_id))


class CountsWatch:
    """The counts of an account that one follower was sent."""

    def __init__(self, counts: Counts, cache: _CountsCache, waiter: Waiter) -> None:
        self._counts = counts
        self._cache = cache
        self._waiter = waiter
        self._topic = counts_topic(cache.account_id)
        self._sent: tuple[int, Sight] | None = None
        counts.news.listen(waiter, self._topic)

    def renew(self) -> None:
        """Send all counts again."""
        self._sent = None
        self._waiter.poke(self._topic)

    def news(self, sight: Sight) -> CountsNews | None:
        """Return the counts to send now, which then count as sent; None if there are none.

        These are all visible counts the first time, after `renew`, and when the visible mailboxes changed or a
        snapshot was missed.
        """
        snapshot = self._cache.snapshot
        if snapshot is None or self._sent == (snapshot.number, sight):
            return None
        is_whole = self._sent != (snapshot.number - 1, sight)
        self._sent = (snapshot.number, sight)
        news = CountsNews(snapshot, sight, is_whole)
        return news if news.counts() else None

    def close(self) -> None:
        self._counts.news.leave(self._waiter, self._topic)
        self._counts.leave(self._cache)


class Counts:
    """The counts of the accounts that are watched."""

    def __init__(self, reader: CountsReader, bus: Bus, sleep: Sleep = asyncio.sleep) -> None:
        self._reader = reader
        self._bus = bus
        self._caches: dict[AccountId, _CountsCache] = {}
        self._gate = asyncio.Semaphore(READS_AT_ONCE)
        self.sleep = sleep
        self.news = LocalBus()
        """Wakes the watchers of an account in this process; each process reads for itself."""

    def watch(self, account_id: AccountId, waiter: Waiter) -> CountsWatch:
        """Poke the waiter with `counts_topic(account_id)` when there are counts to send, until `close`."""
        cache = self._caches.get(account_id)
        if cache is None:
            cache = self._caches[account_id] = _CountsCache(account_id, self)
            self._bus.listen(cache, account_id)
            cache.poke(account_id)
        cache.watches += 1
        watch = CountsWatch(self, cache, waiter)
        if cache.snapshot is not None:
            watch.renew()
        return watch

    @contextmanager
    def watching(self, account_id: AccountId, waiter: Waiter) -> Iterator[CountsWatch]:
        """Like `watch`, for the duration of the block."""
        watch = self.watch(account_id, waiter)
        try:
            yield watch
        finally:
            watch.close()

    async def read(self, account_id: AccountId) -> Mapping[MailboxId, Counted]:
        async with self._gate:
            return await self._reader.counts(account_id)

    def leave(self, cache: _CountsCache) -> None:
        cache.watches -= 1
        if not cache.watches:
            del self._caches[cache.account_id]
            self._bus.leave(cache, cache.account_id)
            cache.close()
