"""Updates the mailboxes that a watch signals: one signal after the other, but new mail in INBOX at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.errors import RateLimited
from app.mail.backend import OriginMailbox, Signal, Watch
from app.mail.types import Mailbox, Role
from app.mirror.account import Mirror
from app.mirror.arrivals import MirroredArrivals
from app.mirror.aside import MAILBOX_FAULTS, RECONCILE
from app.mirror.listing import is_news
from app.telemetry import get_logger
from app.workers.sync.modseq_check import ModseqCheck
from app.workers.sync.pending_signals import PendingSignals
from app.workers.sync.refresh import Refresher

log = get_logger(__name__)


class WatchListener:
    """`receive` and `act` run forever, concurrently. They raise MailServerError.

    `catch_up` compares all mailboxes, for a signal without names; `on_read` is called after each signal with names.
    """

    def __init__(
        self,
        mirror: Mirror,
        arrivals: MirroredArrivals,
        refresher: Refresher,
        catch_up: Callable[[], Awaitable[None]],
        on_read: Callable[[], None],
    ) -> None:
        self._mirror = mirror
        self._arrivals = arrivals
        self._aside = arrivals.aside
        self._refresher = refresher
        self._catch_up = catch_up
        self._on_read = on_read
        self._pending = PendingSignals()
        self._modseq_check = ModseqCheck()

    async def receive(self, watch: Watch) -> None:
        """Receive signals. New mail in INBOX does not wait for running comparisons."""
        async for signal in watch.signals():
            is_ahead = signal.has_new_mail and self._mirror.lock.locked() and await self._look_ahead()
            self._pending.add(replace(signal, has_new_mail=False) if is_ahead else signal)

    async def act(self, on_acted: Callable[[], Awaitable[None]]) -> None:
        """Update the signalled mailboxes."""
        while True:
            await self._read(await self._pending.take())
            await on_acted()

    async def _look_ahead(self) -> bool:
        """Write new mail of INBOX while the lock is held elsewhere; return whether there was any."""
        inbox = next((item for item in await self._mirror.mailboxes() if item.role is Role.INBOX), None)
        if inbox is None:
            return False
        try:
            is_consistent = await self._arrivals.look_ahead(inbox)
        except (*MAILBOX_FAULTS, RateLimited) as error:
            log.warning("look_ahead_failed", account_id=inbox.account_id, mailbox_id=inbox.id, error=error.code)
            return False
        if not is_consistent:
            async with self._mirror.lock:
                await self._aside.tolerate(inbox, RECONCILE, self._refresher.reconcile(inbox))
        return (await self._mirror.mailbox(inbox)).uid_next > inbox.uid_next

    async def _read(self, signal: Signal) -> None:
        status = {mailbox.origin_name: mailbox for mailbox in signal.status}
        async with self._mirror.lock:
            known = {mailbox.origin_name: mailbox for mailbox in await self._mirror.mailboxes()}
            is_plain = bool(signal.origin_names) and signal.origin_names <= known.keys()
            if is_plain and not any(_is_other(mailbox, known[mailbox.origin_name]) for mailbox in signal.status):
                named = [known[name] for name in signal.origin_names if known[name].is_selectable]
                mailboxes = sorted(named, key=lambda mailbox: (mailbox.role is not Role.INBOX, mailbox.origin_name))
                await self._refresher.refresh(mailboxes, status)
                await self._make_sure(signal, mailboxes)
                self._on_read()
                return
        await self._catch_up()

    async def _make_sure(self, signal: Signal, before: Sequence[Mailbox]) -> None:
        """Compare INBOX if its STATUS does not show the signalled change: flags, or messages with reused UIDs."""
        inbox = next((mailbox for mailbox in before if mailbox.role is Role.INBOX), None)
        if inbox is None or self._mirror.unheard_since_ms is not None:
            return
        now = await self._mirror.mailbox(inbox)
        if signal.has_new_mail and now.is_complete and now.uid_next == inbox.uid_next:
            await self._aside.tolerate(now, "newest", self._refresher.replace_reused(now))
        if signal.has_unnumbered_flags and self._modseq_check.may_compare(inbox, now):
            has_found = await self._aside.tolerate(now, RECONCILE, self._refresher.reconcile(now))
            self._modseq_check.note(now, has_found=bool(has_found))


def _is_other(listed: OriginMailbox, known: Mailbox) -> bool:
    """Whether more than the counts of a mailbox changed."""
    return listed.uid_validity not in (None, known.uid_validity) or is_news(listed, known)
