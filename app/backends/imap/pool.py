"""The connection pool of an account.

An account has a budget: one connection that watches and a few that work. A working connection has one user at a time;
a caller gets one with the wanted mailbox selected, if possible. Idle connections are closed after a while. If the
server accepts fewer connections than the budget, the existing ones are shared.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from app.backends.imap.session import ClientSession
from app.errors import CertificateRefused, GatewayError, RateLimited, ServerProtocolError, TimedOut, Unreachable
from app.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

ACCOUNT_CONNECTIONS = 5
"""The budget of an account, including the watch."""
LIMITED_SECONDS = 120.0
"""After the server refused a further connection, how long until one more is tried."""
IDLE_SECONDS = 60.0
WAIT_SECONDS = 30.0
ENDED = "The mail server closes the connection in response to this request, and accepts new connections"
SILENT = "The mail server does not respond to this request, and accepts new connections"
DRAIN_SECONDS = 5.0
"""How long an abandoned command may occupy its connection."""


class Pool:
    """The connections of one account, at most `limit`."""

    def __init__(
        self,
        open_session: Callable[[], Awaitable[ClientSession]],
        *,
        limit: int = ACCOUNT_CONNECTIONS,
        idle_seconds: float = IDLE_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_session = open_session
        self._budget = self._limit = limit
        self._idle_seconds = idle_seconds
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._idle: dict[ClientSession, asyncio.TimerHandle] = {}
        self._draining: set[ClientSession] = set()
        self._spare: set[ClientSession] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open = self._opening = self._apart = 0
        """Counts of connections: all, those being opened, and those that are not shared."""
        self._limited_until = 0.0
        self._is_closed = False

    async def open_apart(self, open_session: Callable[[], Awaitable[ClientSession]]) -> ClientSession:
        """Open a connection that is not shared and counts until it closes. Raises what `session` raises."""
        while True:
            self._forget_lost()
            session = await self._open_or_wait(open_session)
            if session is not None:
                self._apart += 1
                session.on_closed(partial(self._end_apart, session))
                return session

    async def open_spare(self, open_session: Callable[[], Awaitable[ClientSession]]) -> ClientSession:
        """Open a connection that is closed as soon as its slot is needed for a working one.

        Raises what `session` raises, and RateLimited at once if no slot is free.
        """
        self._try_one_more()
        if self._open >= self._limit:
            raise RateLimited("All connections of this account are in use")
        try:
            session = await self._open_counted(open_session)
        except GatewayError as error:
            if self._can_share(error):
                self._limit_to(self._open)
            raise
        self._spare.add(session)
        session.on_closed(partial(self._end_spare, session))
        return session

    def _end_spare(self, session: ClientSession) -> None:
        if session in self._spare:
            self._spare.discard(session)
            self._close_idle_after_timeout(session)
            self._free_slot()

    async def _close_spare(self) -> None:
        """Close a spare connection to free its slot, on the server too."""
        session = next(iter(self._spare))
        self._end_spare(session)
        session.close()
        await session.protocol.wait_closed()

    def _end_apart(self, session: ClientSession) -> None:
        self._apart -= 1
        self._close_idle_after_timeout(session)
        self._free_slot()

    def _close_idle_after_timeout(self, lost: ClientSession) -> None:
        """After a timeout on one connection, close the idle ones: the server may not respond there either."""
        if isinstance(lost.protocol.lost, TimedOut):
            for session in list(self._idle):
                self._retire(session)

    @asynccontextmanager
    async def session(self, mailbox: str | None = None, *, is_new: bool = False) -> AsyncIterator[ClientSession]:
        """A connection for the duration of the block, if possible with this mailbox selected.

        Raises what `Origin.open` raises, and RateLimited when none becomes free within WAIT_SECONDS.
        """
        session = await self._take(mailbox, is_new=is_new)
        try:
            yield session
        finally:
            self._return(session)

    async def read(self, mailbox: str | None, operation: Callable[[ClientSession], Awaitable[T]]) -> T:
        """Run a repeatable operation; run it again on a new connection if a reused one turns out to be lost.

        If the server closes the connection during an operation in one mailbox, or does not respond, but accepts new
        connections, the operation is refused: it raises ServerProtocolError, which affects no other mailbox.
        """
        async with self.session(mailbox) as session:
            was_used = session.was_used
            try:
                return await operation(session)
            except Unreachable as error:
                is_silent = isinstance(error, TimedOut)
                if mailbox is None and (is_silent or not was_used):
                    raise
        async with self.session(mailbox, is_new=True) as session:
            try:
                if not is_silent:
                    return await operation(session)
            except Unreachable:
                if mailbox is None:
                    raise
        raise ServerProtocolError(SILENT if is_silent else ENDED)

    async def close(self) -> None:
        """Close idle and draining connections now, and connections in use when they are returned."""
        self._is_closed = True
        unused = [*self._idle, *self._draining]
        for session in list(self._idle):
            self._retire(session)
        for session in list(self._draining):
            session.protocol.drop(Unreachable("The connection is closed"))
        await asyncio.gather(*(session.protocol.wait_closed() for session in unused))

    async def _take(self, mailbox: str | None, *, is_new: bool) -> ClientSession:
        while True:
            self._forget_lost()
            session = None if is_new else self._best(mailbox)
            if session is not None:
                self._idle.pop(session).cancel()
                return session
            session = await self._open_or_wait(self._open_session)
            if session is not None:
                return session

    async def _open_or_wait(self, open_session: Callable[[], Awaitable[ClientSession]]) -> ClientSession | None:
        """A new session, or None when the caller must try again: one was freed, or the limit was lowered."""
        self._try_one_more()
        if self._open >= self._limit and self._idle:
            self._retire(next(iter(self._idle)))
        if self._open >= self._limit:
            await (self._close_spare() if self._spare else self._wait_turn())
            return None
        try:
            return await self._open_counted(open_session)
        except GatewayError as error:
            if not self._can_share(error):
                raise
            self._limit_to(self._open)
            return None

    async def _open_counted(self, open_session: Callable[[], Awaitable[ClientSession]]) -> ClientSession:
        """Open a session that counts until its slot is freed."""
        self._open += 1
        self._opening += 1
        try:
            return await open_session()
        except BaseException:
            self._free_slot()
            raise
        finally:
            self._opening -= 1

    def _try_one_more(self) -> None:
        """If the limit was lowered, raise it by one after LIMITED_SECONDS."""
        if self._limit < self._budget and self._clock() >= self._limited_until:
            self._limit_to(self._limit + 1)

    def _can_share(self, error: GatewayError) -> bool:
        """Whether the server refused a further connection while another works or is spare, so that it can be shared.

        A connection that is being opened does not count: it may become the watch, which cannot be shared. Courier
        closes a connection beyond MAXPERIP without a response.
        """
        is_refusal = isinstance(error, RateLimited | Unreachable) and not isinstance(
            error, TimedOut | CertificateRefused
        )
        return is_refusal and self._open - self._opening > self._apart

    def _limit_to(self, limit: int) -> None:
        self._limit = limit
        self._limited_until = self._clock() + LIMITED_SECONDS

    def _free_slot(self) -> None:
        self._open -= 1
        if not self._open:  # the lowered limit may be outdated
            self._limit = self._budget
        self._wake_one()

    def _best(self, mailbox: str | None) -> ClientSession | None:
        """An idle session: one with this mailbox selected, else the most recently used."""
        unused = list(self._idle)
        matching = (session for session in unused if session.selected and session.selected.name == mailbox)
        return next(matching, unused[-1] if unused else None)

    async def _wait_turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except TimeoutError:
            log.warning(
                "connections_exhausted",
                limit=self._limit,
                open=self._open,
                opening=self._opening,
                watching=self._apart,
                abandoned=len(self._draining),
            )
            raise RateLimited("All connections of this account are in use") from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake_one()
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _return(self, session: ClientSession) -> None:
        """Return a session to the pool, after its abandoned command has ended. Lost sessions are closed."""
        session.was_used = True
        protocol = session.protocol
        loop = asyncio.get_running_loop()
        if protocol.lost is None and not protocol.is_quiet:
            self._drain(session)
            return
        if protocol.lost is not None or self._is_closed:
            self._close_idle_after_timeout(session)
            self._retire(session)
            return
        self._idle[session] = loop.call_later(self._idle_seconds, self._retire, session)
        self._wake_one()

    def _drain(self, session: ClientSession) -> None:
        protocol = session.protocol
        timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS, protocol.drop, TimedOut())

        def end() -> None:
            timer.cancel()
            self._draining.discard(session)
            self._return(session)

        self._draining.add(session)
        protocol.when_quiet(end)

    def _forget_lost(self) -> None:
        for session in [session for session in self._idle if session.protocol.lost is not None]:
            self._retire(session)

    def _retire(self, session: ClientSession) -> None:
        timer = self._idle.pop(session, None)
        if timer is not None:
            timer.cancel()
        session.close()
        self._free_slot()
