"""Watches the mailboxes other than INBOX, on a second connection that exists while a subscriber follows the account.

NOTIFY (RFC 5465), if the server supports it, reports most changes at once. It may stop doing so, so the STATUS of the
mailboxes is requested every few seconds as well. A change that a sweep finds, and that is not announced before the next
sweep, shows that announcements are missing: NOTIFY or IDLE is then restarted. NOTIFY NONE is sent first, because
Dovecot 2.3 announces nothing for up to 30 s after a second NOTIFY SET alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.backends.imap.session import ClientSession
from app.backends.imap.watching.pending_changes import INBOX, PendingChanges
from app.backends.imap.watching.sweeping import Sweeping
from app.errors import GatewayError, MailServerError
from app.mail.backoff import drifting, spread
from app.telemetry import get_logger
from app.wire.imap.notify import EventGroup, notify

log = get_logger(__name__)

EVENTS = ("MessageNew", "MessageExpunge", "FlagChange", "MailboxName", "SubscriptionChange")
FOLLOWERS_SECONDS = 4.5
"""How often to check whether a subscriber follows the account."""
RETRY_SECONDS = 60.0
"""Wait, plus up to 50 % jitter, before a second connection is tried again after a refusal or loss."""
MANY_MAILBOXES = 100
"""For up to this many mailboxes, NOTIFY also requests STATUS; for more, the sweeps do so in turn."""

OpenSession = Callable[[], Awaitable[ClientSession]]


class OtherMailboxesWatch:
    """The second connection of a watch. `is_notified` is True while NOTIFY is active there.

    `attend` receives each new session before its first command. `on_change` is called when this connection takes over
    the sweeps or returns them to the first, `on_deaf_inbox` when IDLE does not announce changes of INBOX. If
    `open_session` is None, there is never a second connection.
    """

    def __init__(
        self,
        open_session: OpenSession | None,
        pending: PendingChanges,
        sweeping: Sweeping,
        clock: Callable[[], float],
        is_followed: Callable[[], bool],
        *,
        attend: Callable[[ClientSession], None],
        on_change: Callable[[], None],
        on_deaf_inbox: Callable[[], None],
    ) -> None:
        self.is_notified = False
        self._open_session = open_session
        self._pending = pending
        self._sweeping = sweeping
        self._clock = clock
        self._is_followed = is_followed
        self._attend = attend
        self._on_change = on_change
        self._on_deaf_inbox = on_deaf_inbox
        self._session: ClientSession | None = None
        self._woken = asyncio.Event()
        self._retry_at = 0.0
        self._unannounced: set[str] = set()
        """Mailboxes with changes that a sweep found and that were not announced yet."""

    def wake(self) -> None:
        """Check now whether something is due."""
        self._woken.set()

    def note_announcement(self) -> None:
        """Record that NOTIFY announced a change of a mailbox."""
        self._unannounced &= {INBOX}

    def note_inbox_announcement(self) -> None:
        """Record that IDLE announced a change of INBOX."""
        self._unannounced.discard(INBOX)

    def take_over(self) -> bool:
        """Whether this connection sweeps. If it is wanted and not open yet, it will be opened.

        Otherwise the first connection sweeps, and has to interrupt its IDLE.
        """
        if self._session is None and self._is_wanted():
            self._sweeping.is_elsewhere = True
            self.wake()
        return self._sweeping.is_elsewhere

    async def run(self) -> None:
        """Watch the mailboxes forever, whenever a second connection can be opened."""
        while True:
            if self._session is None and self._is_wanted():
                await self.open()
            if self._session is not None:
                await self._keep_up(self._session)
            await self._rest()

    async def open(self) -> None:
        """Open the connection, or schedule the next attempt."""
        if self._open_session is None:
            return
        try:
            session = self._session = await self._open_session()
            session.on_closed(self.wake)
            self._attend(session)
            self.is_notified = await self._ask_notify(session)
        except GatewayError as error:
            log.info("second_connection_failed", error=error.code)
            await self._leave()
            return
        except BaseException:
            if self._session is not None:
                self._session.close()
            raise
        self._sweeping.is_elsewhere = True
        self._on_change()

    async def close(self) -> None:
        """Close the connection, if there is one. Safe to call again."""
        session, self._session = self._session, None
        self.is_notified = self._sweeping.is_elsewhere = False
        self._unannounced.clear()
        if session is not None:
            session.close()
            await session.protocol.wait_closed()

    # ---- while it is open

    async def _keep_up(self, session: ClientSession) -> None:
        try:
            if session.protocol.lost is not None or not self._is_followed():
                await self._leave()
            elif self._sweeping.next_at <= self._clock():
                await self._sweep(session)
        except MailServerError as error:
            log.info("second_connection_lost", error=error.code)
            await self._leave()

    async def _leave(self) -> None:
        """Close the connection, and return the sweeps to the first one."""
        self._retry_at = self._clock() + spread(RETRY_SECONDS)
        await self.close()
        self._on_change()

    async def _sweep(self, session: ClientSession) -> None:
        is_deaf, is_inbox_deaf = bool(self._unannounced - {INBOX}), INBOX in self._unannounced
        self._unannounced.clear()
        self._unannounced |= await self._sweeping.sweep(session)
        if is_inbox_deaf:
            log.info("idle_renewed")
            self._on_deaf_inbox()
        if is_deaf and self.is_notified:
            log.info("notify_renewed")
            self.is_notified = await self._ask_notify(session, is_again=True)

    async def _rest(self) -> None:
        seconds = drifting(FOLLOWERS_SECONDS)
        if self._session is not None:
            seconds = min(seconds, self._sweeping.next_at - self._clock())
        self._woken.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _is_wanted(self) -> bool:
        return self._open_session is not None and self._retry_at <= self._clock() and self._is_followed()

    # ---- NOTIFY

    async def _ask_notify(self, session: ClientSession, *, is_again: bool = False) -> bool:
        """Request NOTIFY for all mailboxes, with no mailbox selected; False if it is not offered or refused."""
        if not session.has("NOTIFY"):
            return False
        if is_again:
            await session.run(notify(()))
        personal = EventGroup("personal", EVENTS)
        foreign = EventGroup(self._foreign_roots(session), EVENTS, with_children=True)
        is_notified = bool(foreign.mailboxes) and await self._notify(session, personal, foreign)
        return is_notified or await self._notify(session, personal)

    async def _notify(self, session: ClientSession, *groups: EventGroup) -> bool:
        command = notify(groups, with_status=len(self._pending.known) <= MANY_MAILBOXES, is_utf8=session.is_utf8)
        return (await session.run(command))[0].status == "OK"

    def _foreign_roots(self, session: ClientSession) -> list[str]:
        """Roots of known shared and other users' mailboxes, which `personal` does not include (RFC 5465 §6.4)."""
        return [
            prefix.removesuffix(delimiter or "")
            for prefix, delimiter in session.foreign
            if prefix and any(name.startswith(prefix) for name in self._pending.known)
        ]
