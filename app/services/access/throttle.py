"""Slows down password guessing: per account and per client address, over all protocols together.

Attempts take turns. One password is checked at a time for an account and for an address, and a wrong one keeps the
turn for up to 2 s, so many concurrent clients get no more checks than one client. After 20 failures one attempt in 30
s is checked. An attempt that is not checked is refused, so a right password is refused like a wrong one.

An address from which someone signed in to an account before is a known address of that account. Attempts from it have
their own turns: they are slowed down, but never refused because of others' failures. All counts are per process.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from app.errors import RateLimited
from app.security.addresses import counted_as, is_loopback

FAILURE_WINDOW_SECONDS = 600.0
FAILURES_BEFORE_LIMIT = 20
SECONDS_PER_FAILURE = FAILURE_WINDOW_SECONDS / FAILURES_BEFORE_LIMIT
"""How long it takes until one failure expires."""
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 2.0
TURN_SECONDS = 10.0
"""How long an attempt waits for its turn."""
WAITING_LIMIT = 100
"""Attempts that wait at one account or address; further ones are refused."""
ENTRIES_LIMIT = 10_000
"""The most lanes, and the most known addresses, that are stored; the least recently used are dropped."""

Sleep = Callable[[float], Awaitable[None]]


class LoginOutcome(Enum):
    """The result of an attempt. NOT_CHECKED: the password was not compared, for example because a server was down."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"


@dataclass(slots=True)
class LoginAttempt:
    """An attempt whose turn has come. Set `outcome` after the password was compared."""

    outcome: LoginOutcome = LoginOutcome.NOT_CHECKED


@dataclass(slots=True, eq=False)
class _Lane:
    """The attempts at an account, from an address, or at an account from an address.

    `is_limited`: refuse after too many.
    """

    is_limited: bool
    level: float = 0.0
    """Failures that have not expired."""
    measured_at: float = 0.0
    waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def failures(self, now: float) -> float:
        self.level = max(0.0, self.level - (now - self.measured_at) / SECONDS_PER_FAILURE)
        self.measured_at = now
        return self.level

    def refuse_excess(self, now: float) -> None:
        excess = self.failures(now) - FAILURES_BEFORE_LIMIT + 1
        if self.is_limited and excess > 0:
            raise _refusal(max(1.0, excess * SECONDS_PER_FAILURE))
        if self.waiting >= WAITING_LIMIT:
            raise _refusal(LONGEST_DELAY_SECONDS)


class LoginThrottle:
    """Admits login attempts, one at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lanes: OrderedDict[tuple[str, str], _Lane] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    @asynccontextmanager
    async def attempt(self, email: str, address: str) -> AsyncIterator[LoginAttempt]:
        """Compare a password within the block and set the attempt's `outcome`.

        Raises RateLimited without running the block if too many attempts have failed or wait. A failure is answered
        late.
        """
        pair = (email, counted_as(address))
        async with AsyncExitStack() as turns:
            lanes = self._lanes_of(pair, address)
            for lane in lanes:
                await turns.enter_async_context(self._turn(lane))
            attempt = LoginAttempt()
            try:
                yield attempt
            finally:
                await self._conclude(attempt.outcome, pair, lanes)

    def _lanes_of(self, pair: tuple[str, str], address: str) -> list[_Lane]:
        """Return the lanes to pass: the address first, so that a slow address never keeps the turn of an account."""
        email, network = pair
        if pair in self._known:
            return [self._lane(pair, is_limited=False)]
        is_limited = not is_loopback(address)  # a proxy or a back end on this machine acts for many clients
        return [self._lane(("", network), is_limited=is_limited), self._lane((email, ""), is_limited=True)]

    def _lane(self, key: tuple[str, str], *, is_limited: bool) -> _Lane:
        lane = self._lanes.setdefault(key, _Lane(is_limited))
        self._lanes.move_to_end(key)
        if len(self._lanes) > ENTRIES_LIMIT:
            self._lanes.popitem(last=False)
        return lane

    @asynccontextmanager
    async def _turn(self, lane: _Lane) -> AsyncIterator[None]:
        lane.refuse_excess(self._clock())
        lane.waiting += 1
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await lane.turn.acquire()
        except TimeoutError:
            raise _refusal(LONGEST_DELAY_SECONDS) from None
        finally:
            lane.waiting -= 1
        try:
            lane.refuse_excess(self._clock())
            yield
        finally:
            lane.turn.release()

    async def _conclude(self, outcome: LoginOutcome, pair: tuple[str, str], lanes: list[_Lane]) -> None:
        if outcome is LoginOutcome.RIGHT:
            self._known[pair] = None
            self._known.move_to_end(pair)
            if len(self._known) > ENTRIES_LIMIT:
                self._known.popitem(last=False)
        elif outcome is LoginOutcome.WRONG:
            now = self._clock()
            highest = max(lane.failures(now) for lane in lanes)
            for lane in lanes:
                lane.level += 1
            await self._sleep(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(highest, 10)))


def _refusal(retry_after_seconds: float) -> RateLimited:
    return RateLimited("Too many failed logins; try again later", retry_after_seconds=retry_after_seconds)
