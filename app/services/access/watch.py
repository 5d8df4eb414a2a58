"""Ends open sessions whose caller has lost access: by a revocation, a changed password, or the end of a token.

A session that outlives a request has a `Guard`: a WebSocket, an event stream, a long poll, a mail session. Each poke
of the topic ACCESS causes one check of all guards of this process, in a few statements. If a guard's caller has lost
access, the guard pokes the waiter of its session, which reads `ended` and closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.cause import detached
from app.cluster.bus import ACCESS, Bus, Waiter
from app.db import accounts, tokens
from app.db.session import Database
from app.errors import GatewayError, NotAuthenticated, TokenExpired, TokenRevoked
from app.mail.identifiers import now_ms
from app.services.access.callers import Caller
from app.services.access.logins import Login
from app.services.access.tokens import caller_of
from app.telemetry import get_logger

LOOK_SECONDS = 20.0
"""How often all guards are checked without a poke: a poke of another process may be lost."""
RETRY_SECONDS = 1.0
"""The delay after a check that the database did not answer."""
BATCH = 500
"""Guards checked by one statement."""
_NEW = "new guard"

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Guard:
    """Whether one open session may continue. `subject`: its caller. `waiter` is poked with ACCESS when access ends."""

    subject: Caller | Login
    waiter: Waiter
    ended: NotAuthenticated | None = None
    """TokenExpired or TokenRevoked once the session has to end."""
    expiry: asyncio.TimerHandle | None = field(default=None, repr=False)

    def check(self) -> None:
        """Raises TokenExpired or TokenRevoked once the session has to end."""
        if self.ended is not None:
            raise self.ended

    def end(self, reason: NotAuthenticated) -> None:
        if self.ended is None:
            self.ended = reason
            self.waiter.poke(ACCESS)


class AccessWatch:
    """The guards of this process."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._guards: set[Guard] = set()
        self._unchecked: list[Guard] = []
        self._waiter = Waiter()
        self._watching: asyncio.Task[None] | None = None

    @contextmanager
    def guard(self, subject: Caller | Login, waiter: Waiter) -> Iterator[Guard]:
        """Guard a session for the duration of the block."""
        guard = self.begin(subject, waiter)
        try:
            yield guard
        finally:
            self.end(guard)

    def begin(self, subject: Caller | Login, waiter: Waiter) -> Guard:
        """Guard a session until `end`. It is checked once soon: access may have ended since authentication."""
        guard = Guard(subject, waiter)
        if isinstance(subject, Caller) and subject.expires_at_ms is not None:
            seconds = max(0.0, (subject.expires_at_ms - now_ms()) / 1000)
            guard.expiry = asyncio.get_running_loop().call_later(seconds, guard.end, TokenExpired())
        self._guards.add(guard)
        self._unchecked.append(guard)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._watch(), context=detached())
        self._waiter.poke(_NEW)
        return guard

    def end(self, guard: Guard) -> None:
        """Stop the guard. Safe to repeat."""
        self._guards.discard(guard)
        if guard.expiry is not None:
            guard.expiry.cancel()
        if not self._guards and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self) -> None:
        self._bus.listen(self._waiter, ACCESS)
        try:
            seconds = LOOK_SECONDS
            while True:
                topics = await self._waiter.wait(seconds)
                seconds = LOOK_SECONDS if await self._check(is_all=topics != {_NEW}) else RETRY_SECONDS
        finally:
            self._bus.leave(self._waiter, ACCESS)

    async def _check(self, *, is_all: bool) -> bool:
        """Check all guards, or only the new ones. False if the database did not answer."""
        unchecked, self._unchecked = self._unchecked, []
        guards = list(self._guards) if is_all else unchecked
        try:
            for begin in range(0, len(guards), BATCH):
                await self._check_batch(guards[begin : begin + BATCH])
        except GatewayError as error:
            log.warning("access_check_failed", error=error.code)
            self._unchecked.extend(unchecked)
            return False
        return True

    async def _check_batch(self, guards: Sequence[Guard]) -> None:
        token_ids = {guard.subject.token_id for guard in guards if isinstance(guard.subject, Caller)}
        account_ids = {guard.subject.account_id for guard in guards if isinstance(guard.subject, Login)}
        stored = await tokens.find_all(self._database, sorted(token_ids)) if token_ids else []
        callers: dict[str, Caller] = {token.id: caller_of(token) for token in stored}
        versions = await accounts.credentials_versions(self._database, sorted(account_ids)) if account_ids else {}
        for guard in guards:
            if not _still_holds(guard.subject, callers, versions):
                guard.end(TokenRevoked())


def _still_holds(subject: Caller | Login, callers: dict[str, Caller], versions: dict[str, int]) -> bool:
    if isinstance(subject, Caller):
        return callers.get(subject.token_id) == subject
    return versions.get(subject.account_id) == subject.credentials_version
