"""Limits the size of the full-text index, per account and for the whole instance."""

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
"""How long the sizes may miss texts that other processes added, or that were deleted with their messages."""
NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class TextLimits:
    """A message whose text is larger than `message_bytes` is not indexed; 0 empties the index.

    A message of an external account is read whole up to `whole_bytes`, and part by part above.
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
    """Deletes the oldest texts of accounts above their limit, and of the largest when the total is too large."""

    def __init__(self, text_index: TextIndex, limits: TextLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._text_index = text_index
        self._limits = limits
        self._clock = clock
        self._sizes: Counter[AccountId] = Counter()
        self._recount_at = 0.0
        self._entered: set[AccountId] = set()
        self._turn = asyncio.Lock()

    async def enter(self, account_id: AccountId) -> None:
        """Consider skipped messages again if there is space now. Does so once per account."""
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
            for account_id, excess in [(id_, size - allowed) for id_, size in self._sizes.items() if size > allowed]:
                self._sizes[account_id] -= await self._text_index.trim(account_id, excess)

    async def grew(self, account_id: AccountId, size_bytes: int) -> None:
        """Count text that was added to the index, and enforce the limits."""
        self._sizes[account_id] += size_bytes
        await self.hold()

    async def above_ms(self, account_id: AccountId) -> int:
        """Messages received after this time may be indexed: in a full account, the time of its oldest text."""
        if self._is_full(account_id):
            self._sizes[account_id] = await self._text_index.size_bytes(account_id)  # texts may have been deleted
        if not self._is_full(account_id):
            return -1
        oldest_ms = await self._text_index.oldest_ms(account_id)
        return NO_LIMIT if oldest_ms is None else oldest_ms

    def _is_full(self, account_id: AccountId) -> bool:
        """Whether a new text would push out another. Trimming leaves an account slightly below its limit."""
        allowed = self._allowed(account_id)
        return self._sizes[account_id] >= allowed - min(self._limits.message_bytes, allowed // 8)

    def _allowed(self, account_id: AccountId) -> int:
        """Largest size that the account may reach."""
        others = [size for id_, size in self._sizes.items() if id_ != account_id]
        return min(self._limits.account_bytes, level([*others, NO_LIMIT], self._limits.total_bytes))


def level(sizes: Iterable[int], total: int) -> int:
    """Largest size per account at which all fit into `total`; NO_LIMIT when they already fit."""
    ascending = sorted(sizes)
    for index, size in enumerate(ascending):
        share = total // (len(ascending) - index)
        if size > share:
            return share
        total -= size
    return NO_LIMIT
