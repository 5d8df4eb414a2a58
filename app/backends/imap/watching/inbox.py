"""Watches INBOX on a connection of its own, by IDLE (RFC 2177), else by NOOP.

An IDLE continues while responses arrive: Dovecot collects changes for 0.5 s from the first change after its last
response, and a new IDLE restarts that time. A dead connection is detected within two minutes: after 60 to 90 s without
a response DONE is sent, and the watch ends unless the server responds within 30 s.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from app.backends.imap.connection import Exchange
from app.backends.imap.session import ClientSession
from app.backends.imap.watching.pending_changes import INBOX
from app.backends.imap.watching.sweeping import Sweeping
from app.errors import ServerRefused
from app.mail.backend import SyncMode
from app.mail.backoff import spread
from app.wire.imap import commands

SILENCE_SECONDS = 60.0
"""After this time without responses, plus up to 50 % jitter, the connection is probed."""
POLL_SECONDS = 4.5
IDLE_SECONDS = 1500.0
"""After this time an IDLE is restarted even if responses arrive: servers may end it after 30 min (RFC 2177)."""
IDLE_DEADLINE_SECONDS = 1680.0
SHORT_IDLE_SECONDS = 1.0
SHORT_IDLES = 5
"""After this many IDLEs in a row that the server ended within SHORT_IDLE_SECONDS, NOOP is used instead."""


class InboxWatch:
    """The first connection of a watch. It also sweeps while `sweeping.is_elsewhere` is False.

    `take_over` is called before each sweep. It returns whether the second connection sweeps from now on.
    """

    def __init__(
        self, session: ClientSession, sweeping: Sweeping, clock: Callable[[], float], take_over: Callable[[], bool]
    ) -> None:
        if not session.has("IDLE"):
            self.mode = SyncMode.POLL
        else:
            self.mode = SyncMode.IDLE if session.has("LIST-EXTENDED", "LIST-STATUS") else SyncMode.SWEEP
        self._session = session
        self._sweeping = sweeping
        self._clock = clock
        self._take_over = take_over
        self._idling: Exchange | None = None
        self._idle_began = 0.0
        self._short_idles = 0
        self._woken = asyncio.Event()
        self._idle_until = math.inf
        self.note_response()
        session.on_closed(self.wake)

    def wake(self) -> None:
        """Check now whether something is due."""
        self._woken.set()

    def renew(self) -> None:
        """Restart IDLE because the server announces no changes: Dovecot may be watching a rotated log file."""
        self._probe_at = 0.0
        self.wake()

    def note_response(self) -> None:
        """Record that the server sent a response."""
        self._probe_at = self._clock() + spread(SILENCE_SECONDS)

    def raise_if_lost(self) -> None:
        lost = self._session.protocol.lost
        if lost is not None:
            raise type(lost)(lost.detail, lost.origin)

    async def run(self) -> None:
        """Watch INBOX forever. Raises MailServerError."""
        while True:
            self.raise_if_lost()
            if self._sweep_at <= self._clock() and not self._take_over():
                await self._stop_idle()
                await self._sweeping.sweep(self._session)
            elif min(self._probe_at, self._idle_until) <= self._clock():
                await self._probe()
            await self._listen()

    @property
    def _sweep_at(self) -> float:
        return math.inf if self._sweeping.is_elsewhere else self._sweeping.next_at

    async def _listen(self) -> None:
        """Wait for responses until something else is due."""
        self._woken.clear()
        if self.mode is not SyncMode.POLL:
            await self._start_idle()
        due_at = min(self._sweep_at, self._probe_at, self._idle_until)
        if self.mode is SyncMode.POLL:
            due_at = min(due_at, self._clock() + POLL_SECONDS)
        try:
            async with asyncio.timeout(max(0.0, due_at - self._clock())):
                await self._woken.wait()
        except TimeoutError:
            if self.mode is SyncMode.POLL:
                await self._session.run(commands.noop())

    async def _probe(self) -> None:
        """Check that the connection is alive. Raises TimedOut."""
        if self._idling is None:
            await self._session.run(commands.noop())
        await self._stop_idle()
        self.note_response()

    async def _start_idle(self) -> None:
        if self._idling is not None and not self._idling.is_done:
            return
        await self._session.ensure(INBOX)
        try:
            self._idling = await self._session.begin_idle(IDLE_DEADLINE_SECONDS)
        except ServerRefused:
            self.mode = SyncMode.POLL
            return
        self._idle_began = self._clock()
        self._idle_until = self._idle_began + IDLE_SECONDS
        if self._idling.is_done:
            self._note_ended_idle()
        else:
            self._idling.on_end = self._note_ended_idle

    def _note_ended_idle(self) -> None:
        """Handle an IDLE that the server ended. After SHORT_IDLES short ones in a row, use NOOP."""
        self._short_idles = self._short_idles + 1 if self._clock() - self._idle_began < SHORT_IDLE_SECONDS else 0
        if self._short_idles >= SHORT_IDLES:
            self.mode = SyncMode.POLL
        self.wake()

    async def _stop_idle(self) -> None:
        idling, self._idling = self._idling, None
        self._idle_until = math.inf
        if idling is not None:
            idling.on_end = None
            await self._session.end_idle(idling)
