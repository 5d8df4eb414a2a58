"""INBOX, selected on a connection of its own: by IDLE (RFC 2177), else by NOOP.

An IDLE goes on undisturbed as long as anything comes: Dovecot gathers the news of 0.5 s, counted from the first change
after the last answer, and a new IDLE begins a new count. A connection that died without a word is found within two
minutes: after 60 to 90 s of silence DONE is sent, and answered within 30 s or the watch ends.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from app.backends.imap.connection import Exchange
from app.backends.imap.session import Session
from app.backends.imap.watching.hearing import INBOX
from app.backends.imap.watching.sweeping import Sweeping
from app.errors import ServerRefused
from app.mail.backend import SyncMode
from app.mail.backoff import spread
from app.wire.imap import commands

SILENCE_SECONDS = 60.0
"""And up to half as long again, before we make sure that the connection is alive."""
POLL_SECONDS = 4.5
IDLE_SECONDS = 1500.0
"""After so long an IDLE is ended though the server talks: it may end one after 30 min (RFC 2177)."""
IDLE_DEADLINE_SECONDS = 1680.0


class InboxEar:
    """The first connection of a watch. It sweeps too while `sweeping.is_elsewhere` is False."""

    def __init__(self, session: Session, sweeping: Sweeping, clock: Callable[[], float]) -> None:
        if not session.has("IDLE"):
            self.mode = SyncMode.POLL
        else:
            self.mode = SyncMode.IDLE if session.has("LIST-EXTENDED", "LIST-STATUS") else SyncMode.SWEEP
        self._session = session
        self._sweeping = sweeping
        self._clock = clock
        self._idling: Exchange | None = None
        self._woken = asyncio.Event()
        self._idle_until = math.inf
        self.be_alive()
        session.on_closed(self.wake)

    def wake(self) -> None:
        """Let it look whether something is due."""
        self._woken.set()

    def be_alive(self) -> None:
        """The server said something."""
        self._probe_at = self._clock() + spread(SILENCE_SECONDS)

    def raise_if_lost(self) -> None:
        lost = self._session.protocol.lost
        if lost is not None:
            raise type(lost)(lost.detail, lost.origin)

    async def run(self) -> None:
        """Hear INBOX for ever. Raises MailServerError."""
        while True:
            self.raise_if_lost()
            if self._sweep_at <= self._clock():
                await self._stop_idle()
                await self._sweeping.sweep(self._session)
            elif min(self._probe_at, self._idle_until) <= self._clock():
                await self._probe()
            await self._listen()

    @property
    def _sweep_at(self) -> float:
        return math.inf if self._sweeping.is_elsewhere else self._sweeping.next_at

    async def _listen(self) -> None:
        """Be told, until something else is due."""
        if self.mode is not SyncMode.POLL:
            await self._start_idle()
        due_at = min(self._sweep_at, self._probe_at, self._idle_until)
        if self.mode is SyncMode.POLL:
            due_at = min(due_at, self._clock() + POLL_SECONDS)
        self._woken.clear()
        try:
            async with asyncio.timeout(max(0.0, due_at - self._clock())):
                await self._woken.wait()
        except TimeoutError:
            if self.mode is SyncMode.POLL:
                await self._session.do(commands.noop())

    async def _probe(self) -> None:
        """Make sure that the connection is alive. Raises TimedOut."""
        if self._idling is None:
            await self._session.do(commands.noop())
        await self._stop_idle()
        self.be_alive()

    async def _start_idle(self) -> None:
        if self._idling is not None:
            return
        await self._session.ensure(INBOX)
        try:
            self._idling = await self._session.begin_idle(IDLE_DEADLINE_SECONDS)
            self._idle_until = self._clock() + IDLE_SECONDS
        except ServerRefused:
            self.mode = SyncMode.POLL

    async def _stop_idle(self) -> None:
        idling, self._idling = self._idling, None
        self._idle_until = math.inf
        if idling is not None:
            await self._session.end_idle(idling)
