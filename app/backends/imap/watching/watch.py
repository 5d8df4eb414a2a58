"""The watch itself: which means of hearing is in use, and what is waited for meanwhile.

1. NOTIFY (RFC 5465): one connection, nothing selected, a STATUS for each change anywhere; a slow sweep behind it.
2. IDLE on INBOX, and a sweep over all mailboxes by LIST-STATUS: every few seconds while somebody follows the account,
   else every 90 s.
3. IDLE on INBOX, and a sweep by pipelined STATUS, with the list itself more rarely.
4. NOOP in INBOX where there is no IDLE, with the same STATUS.

A connection that died without a word is found within two minutes. Under NOTIFY a NOOP leaves after 60 to 90 s of
silence, and is answered within 30 s or the watch ends. Elsewhere something is asked every 90 s at least: the DONE
before a sweep is answered within 30 s, a sweep or a NOOP within 60.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable

from app.backends.imap.connection import Exchange
from app.backends.imap.session import Session
from app.backends.imap.watching.hearing import Hearing
from app.backends.imap.watching.sweeping import Sweeping
from app.errors import ServerProtocolError, ServerRefused
from app.mail.backend import Signal, SyncMode
from app.mail.backoff import spread
from app.mail.types import Mailbox
from app.wire.imap import commands
from app.wire.imap.fetch import is_fetch
from app.wire.imap.framing import Response
from app.wire.imap.notify import EventGroup, notify
from app.wire.imap.response_parser import parse_response
from app.wire.imap.responses import Exists, Expunged, ListedMailbox, MailboxStatus, ServerResponse, Status, Vanished

INBOX = "INBOX"
EVENTS = ("MessageNew", "MessageExpunge", "FlagChange", "MailboxName", "SubscriptionChange")

SILENCE_SECONDS = 60.0
"""Under NOTIFY, and up to half as long again, before we make sure that the connection is alive."""
ALIVE_SECONDS = 30.0
"""For the answer to that."""
RENEWAL_SECONDS = 2.0
"""So long after the last change NOTIFY is asked for anew. Dovecot hears of changes by the log of its mailbox list, and
when one of them has that begun anew, a NOTIFY from before hears of nothing for up to 30 s."""
MANY_CHANGES = 100
"""After so many some may not have been heard."""
MANY_MAILBOXES = 100
"""Of up to so many the numbers are asked for each time."""
POLL_SECONDS = 4.5
FOLLOWERS_SECONDS = 4.5
"""How often we look whether somebody follows the account by now, who wants sweeps at once."""
IDLE_SECONDS = 600.0
"""The deadline of an IDLE, which a sweep ends long before: servers may end one after 30 min, NAT boxes forget it in
10."""


class ImapWatch:
    """A running watch. Signals are merged while nobody takes them, so they never pile up."""

    def __init__(
        self,
        session: Session,
        mailboxes: Iterable[Mailbox],
        clock: Callable[[], float],
        is_followed: Callable[[], bool],
    ) -> None:
        self._session = session
        self._clock = clock
        self._hearing = Hearing(mailboxes, clock)
        self._sweeping = Sweeping(session, self._hearing, clock, is_followed)
        self._idling: Exchange | None = None
        self._next_probe = clock() + spread(SILENCE_SECONDS)
        self._mode = SyncMode.POLL

    @property
    def mode(self) -> SyncMode:
        return self._mode

    @classmethod
    async def start(
        cls,
        session: Session,
        mailboxes: Iterable[Mailbox],
        clock: Callable[[], float] = time.monotonic,
        is_followed: Callable[[], bool] = lambda: True,
    ) -> ImapWatch:
        """Begin by the best strategy. The session is the watch's own from now on. Raises MailServerError."""
        watch = cls(session, mailboxes, clock, is_followed)
        session.protocol.on_untagged = watch._hear
        session.on_closed(watch._hearing.wake)
        if await watch._ask_notify():
            watch._mode = SyncMode.NOTIFY
            watch._sweeping.begin_in_background()
        else:
            await watch._start_selected()
        return watch

    async def close(self) -> None:
        self._session.close()
        await self._session.protocol.wait_closed()

    async def signals(self) -> AsyncIterator[Signal]:
        """Ends only by an error: Unreachable when the connection is lost."""
        try:
            while True:
                await self._wait()
                if signal := self._hearing.take():
                    yield signal
        finally:
            await self.close()

    # ---- what the server says

    def _hear(self, response: Response) -> None:
        """Take any untagged response, asked for or not."""
        self._be_alive()
        if is_fetch(response):
            self._hearing.touch(INBOX)
            return
        try:
            self._read(parse_response(response, is_utf8=self._session.is_utf8))
        except ServerProtocolError:
            self._hearing.be_everywhere()

    def _be_alive(self) -> None:
        self._next_probe = self._clock() + spread(SILENCE_SECONDS)

    def _read(self, response: ServerResponse) -> None:
        match response:
            case MailboxStatus():
                if not self._hearing.hear_status(response) and not self._sweeping.is_running:
                    self._hearing.be_everywhere()
            case ListedMailbox() if not self._sweeping.is_running:
                self._sweeping.hasten()
                self._hearing.be_everywhere()
            case Exists() | Expunged() | Vanished():
                self._hearing.touch(INBOX)
            case Status(code=code) if code is not None and code.name == "NOTIFICATIONOVERFLOW":
                self._choose_selected()
                self._hearing.be_everywhere()
            case _:
                pass

    # ---- waiting

    async def _wait(self) -> None:
        """Wait until something was heard; sweep when it is time for that."""
        self._raise_if_lost()
        if self._sweeping.next_at <= self._clock():
            await self._stop_idle()
            await self._sweeping.sweep()
        if not self._hearing.news.is_set():
            await self._listen(self._sweeping.next_at - self._clock())
        await self._hearing.gather_flags()
        self._raise_if_lost()
        self._hearing.news.clear()

    async def _listen(self, seconds: float) -> None:
        """Wait for news, until it is time for something else; ask whether there is any where it must be asked for."""
        match self._mode:
            case SyncMode.IDLE | SyncMode.SWEEP:
                await self._start_idle()
                seconds = min(seconds, FOLLOWERS_SECONDS)
            case SyncMode.POLL:
                seconds = min(seconds, POLL_SECONDS)
            case _:
                seconds = min(seconds, min(self._next_probe, self._renewal_at) - self._clock())
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._hearing.news.wait()
        except TimeoutError:
            if self._mode is SyncMode.POLL:
                await self._session.do(commands.noop())
            elif self._mode is SyncMode.NOTIFY and self._renewal_at <= self._clock():
                await self._renew_notify()
            elif self._mode is SyncMode.NOTIFY and self._next_probe <= self._clock():
                await self._probe()

    async def _probe(self) -> None:
        """Make sure that the connection is alive. Raises TimedOut."""
        protocol = self._session.protocol
        exchange = Exchange(commands.noop(), protocol.new_tag(), timeout_seconds=ALIVE_SECONDS)
        await protocol.submit(exchange)
        await protocol.settle(exchange)
        self._be_alive()

    def _raise_if_lost(self) -> None:
        lost = self._session.protocol.lost
        if lost is not None:
            raise type(lost)(lost.detail, lost.origin)

    # ---- strategies

    async def _ask_notify(self, *, with_status: bool = True) -> bool:
        """NOTIFY for all mailboxes with nothing selected; False where it isn't offered or is refused."""
        if not self._session.has("NOTIFY"):
            return False
        personal = EventGroup("personal", EVENTS)
        foreign = EventGroup(self._foreign_roots(), EVENTS, with_children=True)
        is_told = bool(foreign.mailboxes) and await self._notify(personal, foreign, with_status=with_status)
        return is_told or await self._notify(personal, with_status=with_status)

    @property
    def _renewal_at(self) -> float:
        return self._hearing.changed_at + RENEWAL_SECONDS if self._hearing.changes else math.inf

    async def _renew_notify(self) -> None:
        """Who refuses it is watched by other means. STATUS of all mailboxes tells what was not heard until now."""
        is_whole = self._hearing.changes >= MANY_CHANGES or len(self._hearing.known) <= MANY_MAILBOXES
        if not await self._ask_notify(with_status=is_whole):
            await self._start_selected()
        self._hearing.changes = 0

    async def _notify(self, *groups: EventGroup, with_status: bool) -> bool:
        asked = notify(groups, with_status=with_status, is_utf8=self._session.is_utf8)
        return (await self._session.run(asked))[0].status == "OK"

    def _foreign_roots(self) -> list[str]:
        """Where mailboxes that we know are shared or other people's: `personal` does not mean them (RFC 5465 §6.4)."""
        return [
            prefix.removesuffix(delimiter or "")
            for prefix, delimiter in self._session.foreign
            if prefix and any(name.startswith(prefix) for name in self._hearing.known)
        ]

    async def _start_selected(self) -> None:
        await self._session.select(INBOX)
        self._choose_selected()

    def _choose_selected(self) -> None:
        """The best of the strategies that work with INBOX selected."""
        if not self._session.has("IDLE"):
            self._mode = SyncMode.POLL
        else:
            self._mode = SyncMode.IDLE if self._session.has("LIST-EXTENDED", "LIST-STATUS") else SyncMode.SWEEP
        self._sweeping.begin()

    async def _start_idle(self) -> None:
        if self._idling is not None:
            return
        await self._session.ensure(INBOX)
        try:
            self._idling = await self._session.begin_idle(IDLE_SECONDS)
        except ServerRefused:
            self._mode = SyncMode.POLL

    async def _stop_idle(self) -> None:
        idling, self._idling = self._idling, None
        if idling is not None:
            await self._session.end_idle(idling)
