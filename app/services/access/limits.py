"""Rate limits per token, and per account over all its tokens: a fixed window of a minute, in this process.

Server keys are not limited. Each request costs one look-up and one addition. Expired windows are dropped when there
are many.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import RateLimited
from app.services.access.callers import Caller, TokenKind

WINDOW_SECONDS = 60
_WINDOWS_LIMIT = 50_000


@dataclass(frozen=True, slots=True)
class Rate:
    """The remaining requests of one limit. `name`: token or account."""

    name: str
    quota: int
    remaining: int
    reset_seconds: int


@dataclass(slots=True)
class _Window:
    ends_at: float
    count: int = 0


class RateLimits:
    """Counts requests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def hit(self, caller: Caller, quota: int) -> tuple[Rate, ...]:
        """Count a request and return what remains. Raises RateLimited if nothing remained."""
        if caller.kind is TokenKind.SERVER:
            return ()
        keys = [("token", str(caller.token_id))]
        if caller.account_ids is not None and len(caller.account_ids) == 1:
            keys.append(("account", next(iter(caller.account_ids))))
        now = self._clock()
        rates = tuple([self._count(name, key, quota, now) for name, key in keys])
        for rate in rates:
            if rate.remaining < 0:
                raise RateLimited(f"More than {quota} requests within a minute", retry_after_seconds=rate.reset_seconds)
        return rates

    def _count(self, name: str, key: str, quota: int, now: float) -> Rate:
        window = self._windows.get(key)
        if window is None or window.ends_at <= now:
            if len(self._windows) >= _WINDOWS_LIMIT:
                self._windows = {
                    key: old_window for key, old_window in self._windows.items() if old_window.ends_at > now
                }
            window = self._windows[key] = _Window(now + WINDOW_SECONDS)
        window.count += 1
        return Rate(name, quota, quota - window.count, max(1, round(window.ends_at - now)))
