"""Hearing of changes in every mailbox of an account, by the best means that the server confirms.

1. NOTIFY (RFC 5465): one connection, nothing selected, a STATUS for each change anywhere; a slow sweep behind it.
2. IDLE on INBOX, and a sweep over all mailboxes by LIST-STATUS every few seconds.
3. IDLE on INBOX, and a sweep by pipelined STATUS, with the list itself more rarely.
4. NOOP in INBOX where there is no IDLE, with the same STATUS.

A sweep asks for a hundred mailboxes at most: the busy ones each time, the others in turn.

A connection that died without a word is found within two minutes. Under NOTIFY a NOOP leaves after 60 to 90 s of
silence, and is answered within 30 s or the watch ends. Elsewhere something is asked every 5 s: the DONE before a sweep
is answered within 30 s, a sweep or a NOOP within 60.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress

from app.backends.imap.connection import Exchange
from app.backends.imap.listing import ask_status, list_mailboxes, with_status
from app.backends.imap.session import Session
from app.errors import ServerProtocolError, ServerRefused
from app.mail.backend import OriginMailbox, Signal, SyncMode
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

BACKGROUND_SWEEP_SECONDS = 300.0
"""Behind NOTIFY, for what it loses."""
SILENCE_SECONDS = 60.0
"""Under NOTIFY, and up to half as long again, before we make sure that the connection is alive."""
ALIVE_SECONDS = 30.0
"""For the answer to that."""
NEW_MAILBOX_SWEEP_SECONDS = 15.0
"""Soon after mailboxes were made: Dovecot was seen to lose events then."""
SWEEP_SECONDS = (2.0, 4.5)
"""Between two sweeps, so that a change anywhere is told within 5 s."""
SWEPT_MAILBOXES = 100
"""Those of one sweep."""
BUSY_MAILBOXES = 20
"""Those that changed last are in each sweep."""
LIST_SECONDS = 15.0
"""How often the list itself is asked for where it costs more than a sweep; the more mailboxes the more rarely."""
POLL_SECONDS = 4.5
FLAGS_SECONDS = 0.05
"""Changes of flags come in bursts, our own among them: the first is told at once, those after it this far apart."""
LONGEST_SECONDS = 540.0
"""No connection is silent for longer: servers may end an IDLE after 30 min, NAT boxes forget one in 10."""


class ImapWatch:
    """A running watch. Signals are merged while nobody takes them, so they never pile up."""

    def __init__(self, session: Session, mailboxes: Iterable[Mailbox], clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._known = {mailbox.origin_name: _origin_mailbox(mailbox) for mailbox in mailboxes}
        self._touched: set[str] = set()
        self._status: dict[str, OriginMailbox] = {}
        self._is_everywhere = self._is_sweeping = False
        self._news = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._taken_at = 0.0
        self._idling: Exchange | None = None
        self._next_sweep = self._next_list = self._pace = 0.0
        self._next_probe = clock() + spread(SILENCE_SECONDS)
        self._busy: dict[str, None] = {}
        """The mailboxes that changed last, by name."""
        self._turn = 0
        self._mode = SyncMode.POLL

    @property
    def mode(self) -> SyncMode:
        return self._mode

    @classmethod
    async def start(
        cls, session: Session, mailboxes: Iterable[Mailbox], clock: Callable[[], float] = time.monotonic
    ) -> ImapWatch:
        """Begin by the best strategy. The session is the watch's own from now on. Raises MailServerError."""
        watch = cls(session, mailboxes, clock)
        session.protocol.on_untagged = watch._hear
        session.on_closed(watch._end)
        if not await watch._start_notify():
            await watch._start_selected()
        return watch

    def _end(self) -> None:
        self._news.set()
        self._is_urgent.set()

    async def close(self) -> None:
        self._session.close()
        await self._session.protocol.wait_closed()

    async def signals(self) -> AsyncIterator[Signal]:
        """Ends only by an error: Unreachable when the connection is lost."""
        try:
            while True:
                await self._wait()
                if signal := self._take():
                    yield signal
        finally:
            await self.close()

    # ---- hearing

    def _hear(self, response: Response) -> None:
        """Take any untagged response, asked for or not."""
        self._be_alive()
        if is_fetch(response):
            self._touch(INBOX)
            return
        try:
            self._read(parse_response(response, is_utf8=self._session.is_utf8))
        except ServerProtocolError:
            self._be_everywhere()

    def _be_alive(self) -> None:
        self._next_probe = self._clock() + spread(SILENCE_SECONDS)

    def _read(self, response: ServerResponse) -> None:
        match response:
            case MailboxStatus():
                self._hear_status(response)
            case ListedMailbox() if not self._is_sweeping:
                self._next_sweep = min(self._next_sweep, self._clock() + NEW_MAILBOX_SWEEP_SECONDS)
                self._be_everywhere()
            case Exists() | Expunged() | Vanished():
                self._touch(INBOX)
            case Status(code=code) if code is not None and code.name == "NOTIFICATIONOVERFLOW":
                self._choose_selected()
                self._be_everywhere()
            case _:
                pass

    def _hear_status(self, response: MailboxStatus) -> None:
        known = self._known.get(response.name)
        if known is not None:
            self._note(with_status(known, response))
        elif not self._is_sweeping:
            self._be_everywhere()

    def _note(self, mailbox: OriginMailbox) -> None:
        """Signal a mailbox that isn't as it was last heard."""
        known = self._known.get(mailbox.origin_name)
        if known != mailbox:
            self._known[mailbox.origin_name] = mailbox
            self._status[mailbox.origin_name] = mailbox
            if known is not None:
                self._be_busy(mailbox.origin_name)
            self._touch(mailbox.origin_name, is_urgent=known is None or not _is_reflagged(known, mailbox))

    def _be_busy(self, name: str) -> None:
        self._busy.pop(name, None)
        self._busy[name] = None
        if len(self._busy) > BUSY_MAILBOXES:
            del self._busy[next(iter(self._busy))]

    def _touch(self, name: str, *, is_urgent: bool = True) -> None:
        self._touched.add(name)
        self._news.set()
        if is_urgent:
            self._is_urgent.set()

    def _be_everywhere(self) -> None:
        self._is_everywhere = True
        self._news.set()
        self._is_urgent.set()

    def _take(self) -> Signal | None:
        """What was heard since the last signal, None for nothing."""
        if not (self._touched or self._is_everywhere):
            return None
        names = frozenset() if self._is_everywhere else frozenset(self._touched)
        signal = Signal(names, tuple(self._status.values()))
        self._touched.clear()
        self._status.clear()
        self._is_everywhere = False
        self._is_urgent.clear()
        self._taken_at = self._clock()
        return signal

    # ---- waiting

    async def _wait(self) -> None:
        """Wait until something was heard; sweep when it is time for that."""
        self._raise_if_lost()
        if self._next_sweep <= self._clock():
            await self._sweep()
        if not self._news.is_set():
            await self._listen(self._next_sweep - self._clock())
        await self._gather_flags()
        self._raise_if_lost()
        self._news.clear()

    async def _gather_flags(self) -> None:
        """Where nothing but flags changed, right after the last signal: wait a moment for more of it."""
        seconds = self._taken_at + FLAGS_SECONDS - self._clock()
        if seconds > 0 and self._touched and not self._is_urgent.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._is_urgent.wait()

    async def _listen(self, seconds: float) -> None:
        """Wait for news, until it is time for something else; ask whether there is any where it must be asked for."""
        match self._mode:
            case SyncMode.IDLE | SyncMode.SWEEP:
                await self._start_idle()
            case SyncMode.POLL:
                seconds = min(seconds, POLL_SECONDS)
            case _:
                seconds = min(seconds, self._next_probe - self._clock())
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()
        except TimeoutError:
            if self._mode is SyncMode.POLL:
                await self._session.do(commands.noop())
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

    async def _start_notify(self) -> bool:
        """NOTIFY for all mailboxes with nothing selected; False where it isn't offered or is refused."""
        if not self._session.has("NOTIFY"):
            return False
        personal = EventGroup("personal", EVENTS)
        foreign = EventGroup(self._foreign_roots(), EVENTS, with_children=True)
        is_told = bool(foreign.mailboxes) and await self._notify(personal, foreign)
        if not (is_told or await self._notify(personal)):
            return False
        self._mode = SyncMode.NOTIFY
        self._next_sweep = self._clock() + BACKGROUND_SWEEP_SECONDS
        return True

    async def _notify(self, *groups: EventGroup) -> bool:
        asked = notify(groups, with_status=True, is_utf8=self._session.is_utf8)
        return (await self._session.run(asked))[0].status == "OK"

    def _foreign_roots(self) -> list[str]:
        """Where mailboxes that we know are shared or other people's: `personal` does not mean them (RFC 5465 §6.4)."""
        return [
            prefix.removesuffix(delimiter or "")
            for prefix, delimiter in self._session.foreign
            if prefix and any(name.startswith(prefix) for name in self._known)
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
        self._next_sweep = 0.0

    async def _start_idle(self) -> None:
        if self._idling is not None:
            return
        await self._session.ensure(INBOX)
        try:
            self._idling = await self._session.begin_idle(LONGEST_SECONDS + 60)
        except ServerRefused:
            self._mode = SyncMode.POLL

    async def _stop_idle(self) -> None:
        idling, self._idling = self._idling, None
        if idling is not None:
            await self._session.end_idle(idling)

    # ---- sweeping

    async def _sweep(self) -> None:
        """Ask for the numbers of mailboxes, and signal those that changed."""
        await self._stop_idle()
        before = len(self._touched)
        self._is_sweeping = True
        try:
            if self._next_list <= self._clock():
                self._compare(await list_mailboxes(self._session))
            else:
                for mailbox in await ask_status(self._session, self._round()):
                    self._note(mailbox)
        finally:
            self._is_sweeping = False
        self._schedule(found=len(self._touched) > before)

    def _round(self) -> list[OriginMailbox]:
        """Whose turn it is: the busy ones, and the next of the others."""
        busy = [name for name in self._busy if name in self._known]
        others = [name for name in self._known if name not in busy]
        start = self._turn if self._turn < len(others) else 0
        self._turn = start + SWEPT_MAILBOXES - len(busy)
        return [self._known[name] for name in [*busy, *others[start : self._turn]]]

    def _compare(self, mailboxes: Sequence[OriginMailbox]) -> None:
        found = {mailbox.origin_name: mailbox for mailbox in mailboxes}
        if found.keys() != self._known.keys():
            self._be_everywhere()
        for mailbox in mailboxes:
            self._note(mailbox)
        self._known = found
        rarity = len(found) / SWEPT_MAILBOXES
        if rarity > 1 or not self._session.has("LIST-EXTENDED", "LIST-STATUS"):
            self._next_list = self._clock() + LIST_SECONDS * max(1.0, rarity)

    def _schedule(self, *, found: bool) -> None:
        """The next sweep: soon after one that found something, later and later while nothing happens."""
        shortest, longest = SWEEP_SECONDS
        if self._mode is SyncMode.NOTIFY:
            shortest = longest = BACKGROUND_SWEEP_SECONDS
            self._next_list = 0.0
        self._pace = shortest if found else max(shortest, self._pace * 1.5)
        self._next_sweep = self._clock() + min(self._pace, longest, LONGEST_SECONDS)


def _is_reflagged(before: OriginMailbox, now: OriginMailbox) -> bool:
    """Whether the same messages are there as before, and only their flags may differ."""
    return (before.uid_validity, before.uid_next, before.total) == (now.uid_validity, now.uid_next, now.total)


def _origin_mailbox(mailbox: Mailbox) -> OriginMailbox:
    """A mailbox as it is in the index, to be compared with what the origin says."""
    return OriginMailbox(
        origin_name=mailbox.origin_name,
        path=mailbox.path,
        delimiter=mailbox.delimiter,
        role=mailbox.role,
        is_selectable=mailbox.is_selectable,
        is_subscribed=mailbox.is_subscribed,
        uid_validity=mailbox.uid_validity,
        uid_next=mailbox.uid_next,
        highest_modseq=mailbox.highest_modseq or None,
        total=mailbox.total,
        unread=mailbox.unread,
    )
