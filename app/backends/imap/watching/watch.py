"""The watch itself: what is heard on its connections becomes signals.

1. INBOX is selected on the first connection and heard by IDLE, without a break (`inbox`).
2. While somebody follows the account, a second connection watches the other mailboxes (`elsewhere`): by NOTIFY where
   the server has it, and by a sweep every few seconds in any case.
3. Otherwise, and where the server lets in no second connection, the first connection sweeps between two IDLEs.

So no change rests on one means alone: NOTIFY and IDLE both fall silent on servers that we know (docs/adr/0022).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial

from app.backends.imap.session import Session
from app.backends.imap.watching.inbox import InboxWatch
from app.backends.imap.watching.other_mailboxes import OtherMailboxesWatch
from app.backends.imap.watching.pending_changes import INBOX, PendingChanges
from app.backends.imap.watching.sweeping import Sweeping
from app.errors import ServerProtocolError
from app.mail.backend import Signal, SyncMode
from app.mail.types import Mailbox
from app.wire.imap.fetch import is_fetch, parse_fetch
from app.wire.imap.framing import Response
from app.wire.imap.response_parser import parse_response
from app.wire.imap.responses import Exists, Expunged, ListedMailbox, MailboxStatus, ServerResponse, Status, Vanished

OpenSession = Callable[[], Awaitable[Session]]


class ImapWatch:
    """A running watch. Signals are merged while nobody takes them, so they never pile up."""

    def __init__(
        self,
        session: Session,
        mailboxes: Iterable[Mailbox],
        clock: Callable[[], float],
        is_followed: Callable[[], bool],
        open_second: OpenSession | None,
    ) -> None:
        self._hearing = PendingChanges(mailboxes, clock)
        self._sweeping = Sweeping(self._hearing, clock, is_followed)
        self._inbox = InboxWatch(session, self._sweeping, clock, self._take_over)
        self._elsewhere = OtherMailboxesWatch(
            None if not session.has("IDLE") else open_second,
            self._hearing,
            self._sweeping,
            clock,
            is_followed,
            attend=self._attend,
            on_change=self._inbox.wake,
            on_deaf_inbox=self._inbox.renew,
        )
        self._session = session
        self._attend(session)

    @property
    def mode(self) -> SyncMode:
        return SyncMode.NOTIFY if self._elsewhere.is_told else self._inbox.mode

    @classmethod
    async def start(
        cls,
        session: Session,
        mailboxes: Iterable[Mailbox],
        clock: Callable[[], float] = time.monotonic,
        is_followed: Callable[[], bool] = lambda: True,
        open_second: OpenSession | None = None,
    ) -> ImapWatch:
        """Begin. The session is the watch's own from now on. Raises MailServerError.

        `open_second` opens the second connection; without it the first does all.
        """
        watch = cls(session, mailboxes, clock, is_followed, open_second)
        session.on_closed(watch._hearing.wake)
        await session.select(INBOX)
        if is_followed():
            await watch._elsewhere.open()
        return watch

    async def close(self) -> None:
        await self._elsewhere.close()
        self._session.close()
        await self._session.protocol.wait_closed()

    def look(self) -> None:
        """Do at once what is due by the clock, of which nothing else tells."""
        self._inbox.wake()
        self._elsewhere.wake()

    async def signals(self) -> AsyncIterator[Signal]:
        """Ends only by an error: Unreachable when the connection is lost."""
        parts = [asyncio.create_task(part) for part in (self._inbox.run(), self._elsewhere.run())]
        for part in parts:
            part.add_done_callback(lambda _: self._hearing.wake())
        try:
            while True:
                await self._wait(parts)
                if signal := self._hearing.take():
                    yield signal
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self.close()

    async def _wait(self, parts: list[asyncio.Task[None]]) -> None:
        """Wait until something was heard. Raises what ended one of the parts."""
        self.look()
        await self._hearing.news.wait()
        await self._hearing.gather_flags()
        for part in parts:
            if part.done():
                part.result()
        self._inbox.raise_if_lost()
        self._hearing.news.clear()

    def _take_over(self) -> bool:
        return self._elsewhere.take_over()

    # ---- what the server says

    def _attend(self, session: Session) -> None:
        """Read the announcements of a connection."""
        session.protocol.on_untagged = partial(self._hear, session)

    def _hear(self, session: Session, response: Response) -> None:
        """Take any untagged response, asked for or not."""
        if session is self._session:
            self._inbox.be_alive()
        try:
            if is_fetch(response):
                is_numbered = not session.keeps_modseq or parse_fetch(response).modseq is not None
                self._hearing.hear_flags(is_numbered=is_numbered)
                self._elsewhere.be_told_of_inbox()
            else:
                self._read(session, parse_response(response, is_utf8=session.is_utf8))
        except ServerProtocolError:
            self._hearing.be_everywhere()

    def _read(self, session: Session, response: ServerResponse) -> None:
        is_asked = self._sweeping.session is session
        match response:
            case MailboxStatus():
                if not is_asked:
                    self._elsewhere.be_told()
                if not self._hearing.hear_status(response) and not is_asked:
                    self._hearing.be_everywhere()
            case ListedMailbox() if not is_asked:
                self._sweeping.hasten()
                self._hearing.be_everywhere()
            case Exists() | Expunged() | Vanished():
                self._elsewhere.be_told_of_inbox()
                if isinstance(response, Exists):
                    self._hearing.hear_new_mail()
                self._hearing.touch(INBOX)
            case Status(code=code) if code is not None and code.name == "NOTIFICATIONOVERFLOW":
                self._elsewhere.is_told = False
                self._hearing.be_everywhere()
            case _:
                pass
