"""The watch of an account: turns responses on its connections into signals.

1. INBOX is selected on the first connection and watched by IDLE without interruption (`inbox`).
2. While a subscriber follows the account, a second connection watches the other mailboxes (`other_mailboxes`): by
   NOTIFY if the server supports it, and always by a sweep every few seconds.
3. Otherwise, and if the server accepts no second connection, the first connection sweeps between two IDLEs.

No change depends on a single mechanism: NOTIFY and IDLE both stop working on known servers (docs/adr/0022).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial

from app.backends.imap.session import ClientSession
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

OpenSession = Callable[[], Awaitable[ClientSession]]


class ImapWatch:
    """A running watch. Signals that are not taken yet are merged, so they never pile up."""

    def __init__(
        self,
        session: ClientSession,
        mailboxes: Iterable[Mailbox],
        clock: Callable[[], float],
        is_followed: Callable[[], bool],
        open_second: OpenSession | None,
    ) -> None:
        self._pending = PendingChanges(mailboxes, clock)
        self._sweeping = Sweeping(self._pending, clock, is_followed)
        self._inbox = InboxWatch(session, self._sweeping, clock, self._take_over)
        self._others = OtherMailboxesWatch(
            None if not session.has("IDLE") else open_second,
            self._pending,
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
        return SyncMode.NOTIFY if self._others.is_notified else self._inbox.mode

    @classmethod
    async def start(
        cls,
        session: ClientSession,
        mailboxes: Iterable[Mailbox],
        clock: Callable[[], float] = time.monotonic,
        is_followed: Callable[[], bool] = lambda: True,
        open_second: OpenSession | None = None,
    ) -> ImapWatch:
        """Start a watch, which owns the session from now on. Raises MailServerError.

        `open_second` opens the second connection; without it the first watches all mailboxes.
        """
        watch = cls(session, mailboxes, clock, is_followed, open_second)
        session.on_closed(watch._pending.wake)
        await session.select(INBOX)
        if is_followed():
            await watch._others.open()
        return watch

    async def close(self) -> None:
        await self._others.close()
        self._session.close()
        await self._session.protocol.wait_closed()

    def look(self) -> None:
        """Check now whether something is due by the clock."""
        self._inbox.wake()
        self._others.wake()

    async def signals(self) -> AsyncIterator[Signal]:
        """Signals of changes, forever. Raises Unreachable when the connection is lost."""
        parts = [asyncio.create_task(part) for part in (self._inbox.run(), self._others.run())]
        for part in parts:
            part.add_done_callback(lambda _: self._pending.wake())
        try:
            while True:
                await self._wait(parts)
                if signal := self._pending.take():
                    yield signal
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self.close()

    async def _wait(self, parts: list[asyncio.Task[None]]) -> None:
        """Wait for a change. Raises the error that ended one of the parts."""
        self.look()
        await self._pending.news.wait()
        await self._pending.gather_flags()
        for part in parts:
            if part.done():
                part.result()
        self._inbox.raise_if_lost()
        self._pending.news.clear()

    def _take_over(self) -> bool:
        return self._others.take_over()

    # ---- responses

    def _attend(self, session: ClientSession) -> None:
        """Receive the untagged responses of a connection."""
        session.protocol.on_untagged = partial(self._hear, session)

    def _hear(self, session: ClientSession, response: Response) -> None:
        """Handle an untagged response, solicited or not."""
        if session is self._session:
            self._inbox.note_response()
        try:
            if is_fetch(response):
                is_numbered = not session.keeps_modseq or parse_fetch(response).modseq is not None
                self._pending.note_flags(is_numbered=is_numbered)
                self._others.note_inbox_announcement()
            else:
                self._read(session, parse_response(response, is_utf8=session.is_utf8))
        except ServerProtocolError:
            self._pending.note_unknown_change()

    def _read(self, session: ClientSession, response: ServerResponse) -> None:
        is_solicited = self._sweeping.session is session
        match response:
            case MailboxStatus():
                if not is_solicited:
                    self._others.note_announcement()
                if not self._pending.note_status(response) and not is_solicited:
                    self._pending.note_unknown_change()
            case ListedMailbox() if not is_solicited:
                self._sweeping.hasten()
                self._pending.note_unknown_change()
            case Exists() | Expunged() | Vanished():
                self._others.note_inbox_announcement()
                if isinstance(response, Exists):
                    self._pending.note_new_mail()
                self._pending.touch(INBOX)
            case Status(code=code) if code is not None and code.name == "NOTIFICATIONOVERFLOW":
                self._others.is_notified = False
                self._pending.note_unknown_change()
            case _:
                pass
