"""How much the full-text index holds: each account up to its own limit, all of them together up to the instance's."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.mail.types import AccountId
from app.mailstore.texts import TextIndex
from app.settings import Settings

WHOLE_BYTES = 64 * 1024
RECOUNT_SECONDS = 60.0
"""How long what other processes take in, and what goes with its messages, may be overlooked."""
NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class TextLimits:
    """A message is left out when its text is larger than `message_bytes`; 0 empties the index.

    Of mail that lies elsewhere a message up to `whole_bytes` is read whole, a larger one part by part.
    """

    message_bytes: int
    account_bytes: int
    whole_bytes: int = WHOLE_BYTES
    total_bytes: int = NO_LIMIT

    @classmethod
    def of(cls, settings: Settings) -> TextLimits:
        most = settings.search_text_kb * 1024
        account_bytes = settings.search_account_mb * 1024 * 1024 if most else 0
        return cls(most, account_bytes, total_bytes=settings.search_total_mb * 1024 * 1024)


class TextIndexQuota:
    """An account that has too much gives up its oldest texts; where all together have too much, the largest do."""

    def __init__(self, text_index: TextIndex, limits: TextLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._text_index = text_index
        self._limits = limits
        self._clock = clock
        self._sizes: Counter[AccountId] = Counter()
        self._recount_at = 0.0
        self._entered: set[AccountId] = set()
        self._turn = asyncio.Lock()

    async def enter(self, account_id: AccountId) -> None:
        """Once for an account: consider messages that were left out again, if there is room now."""
        if account_id in self._entered:
            return
        await self.hold()
        if self._sizes[account_id] < self._allowed(account_id) - self._limits.message_bytes:
            await self._text_index.await_again(account_id)
        self._entered.add(account_id)

    async def hold(self) -> None:
        """Bring every account within the limits."""
        async with self._turn:
            if self._clock() >= self._recount_at:
                self._sizes = Counter(await self._text_index.sizes())
                self._recount_at = self._clock() + RECOUNT_SECONDS
            allowed = min(self._limits.account_bytes, level(self._sizes.values(), self._limits.total_bytes))
            for account_id, excess in [(one, size - allowed) for one, size in self._sizes.items() if size > allowed]:
                self._sizes[account_id] -= await self._text_index.trim(account_id, excess)

    async def grew(self, account_id: AccountId, size_bytes: int) -> None:
        """So much text was taken in."""
        self._sizes[account_id] += size_bytes
        await self.hold()

    async def above_ms(self, account_id: AccountId) -> int:
        """Since when a message must have been received to have room: in a full account, later than its oldest text."""
        if self._is_full(account_id):
            self._sizes[account_id] = await self._text_index.size_bytes(account_id)  # some may have been removed
        if not self._is_full(account_id):
            return -1
        oldest_ms = await self._text_index.oldest_ms(account_id)
        return NO_LIMIT if oldest_ms is None else oldest_ms

    def _is_full(self, account_id: AccountId) -> bool:
        """Whether another text would soon have to go: what an account gives up leaves it a little below its limit."""
        allowed = self._allowed(account_id)
        return self._sizes[account_id] >= allowed - min(self._limits.message_bytes, allowed // 8)

    def _allowed(self, account_id: AccountId) -> int:
        """How large an account may get."""
        others = [size for one, size in self._sizes.items() if one != account_id]
        return min(self._limits.account_bytes, level([*others, NO_LIMIT], self._limits.total_bytes))


def level(sizes: Iterable[int], total: int) -> int:
    """What the largest may have so that all fit into `total`; NO_LIMIT where they do."""
    ascending = sorted(sizes)
    for index, size in enumerate(ascending):
        share = total // (len(ascending) - index)
        if size > share:
            return share
        total -= size
    return NO_LIMIT
