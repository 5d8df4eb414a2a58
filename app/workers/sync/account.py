"""Syncs one account: opens a watch, catches up, writes announced changes, and reconnects after a lost connection."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from app.errors import (
    AccountNotFound,
    Conflict,
    GatewayError,
    LoginRefused,
    MailboxNotFound,
    RateLimited,
    ServerProtocolError,
    Unavailable,
)
from app.mail.backend import MailBackend, Watch
from app.mail.backoff import reconnect_delays, spread
from app.mail.delta import Arrived, Delta, Location, MailboxCounted, MailboxDeleted, Note
from app.mail.events import AccountResync
from app.mail.identifiers import now_ms
from app.mail.types import AccountId, Mailbox
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mirror.account import Mirror
from app.mirror.arrivals import ListedMailboxes, MirroredArrivals
from app.mirror.aside import FILL, MAILBOX_FAULTS, NUMBERS, RECONCILE
from app.mirror.listing import (
    beginnings,
    differs,
    first_sync_order,
    is_ahead,
    is_miscounted,
    list_changes,
    renames,
)
from app.telemetry import get_logger
from app.workers.limiters import Limiters
from app.workers.loop import until_one_ends
from app.workers.sync.filling import Progress, fill
from app.workers.sync.flag_polling import FlagPolling
from app.workers.sync.listening import WatchListener
from app.workers.sync.previews import Previews
from app.workers.sync.quotas import QuotaReporter
from app.workers.sync.refresh import Refresher
from app.workers.sync.reports import ReportReader
from app.workers.sync.rereading import Rereader
from app.workers.sync.state import AccountState
from app.workers.text_indexer import TextReader

log = get_logger(__name__)

CHECK_SECONDS = 600.0
"""How often the STATUS of all mailboxes is compared, in case a watch missed a change."""
RETRY_SECONDS = 30.0
"""Delay before a mailbox that could not be read is tried again. It doubles with each failure, up to CHECK_SECONDS."""
FILL_ATTEMPTS = 2
NO_NUMBERS = "The mail server lists this mailbox but does not report its messages"
UNLISTED_LIMIT = 3
"""After this many lists without it a mailbox counts as deleted, even if it can be opened."""


class SyncedAccount:
    """Syncs one account under the lease `epoch`, until cancelled or until it cannot continue."""

    def __init__(
        self,
        account_id: AccountId,
        index: Index,
        reader: MailReader,
        backend: MailBackend,
        epoch: int,
        limiters: Limiters,
        delays: Callable[[], Iterator[float]] = reconnect_delays,
        texts: TextReader | None = None,
    ) -> None:
        self._mirror = Mirror(account_id, index, reader, backend, epoch)
        self._state = AccountState(account_id, index, epoch)
        self._limiters = limiters
        self._delays = delays
        self._previews = Previews(self._mirror, texts)
        self._reports = ReportReader(self._mirror)
        self._rereader = Rereader(self._mirror, self._want)
        self._arrivals = MirroredArrivals(self._mirror, self._want)
        self._refresher = Refresher(self._mirror, self._arrivals, self._list_and_write)
        self._quotas = QuotaReporter(self._mirror)
        self._listener = WatchListener(
            self._mirror, self._arrivals, self._refresher, self._catch_up, self._note_contact
        )
        self._flag_polling = FlagPolling()
        self._has_work = asyncio.Event()
        self._unlisted: Counter[str] = Counter()
        """How many lists in a row lacked a mailbox that can be opened."""
        self._retries = 0
        self._is_live = False
        self._contact_ms = 0

    async def run(self) -> None:
        """Sync forever. Returns when the login is refused, the account is deleted or another worker holds it."""
        delays = self._delays()
        while True:
            try:
                self._contact_ms = self._contact_ms or await self._last_event_ms()
                await self._follow()
            except LoginRefused as error:
                await self._state.refused(error)
                return
            except (AccountNotFound, Conflict):
                return
            except Unavailable:
                raise  # the database or the disk failed, not the mail server
            except GatewayError as error:
                log.info("account_lost", account_id=self._mirror.account_id, error=error.code)
                await self._state.lost(error)
                wait_seconds = spread(error.retry_after_seconds) if isinstance(error, RateLimited) else 0.0
            if self._is_live:
                self._is_live = False
                delays = self._delays()
            await asyncio.sleep(max(next(delays), wait_seconds))

    async def _follow(self) -> None:
        """Sync over one connection. Returns only by an error."""
        self._mirror.unheard_since_ms = self._contact_ms
        async with self._limiters.connecting.entered(self._mirror.backend.host):
            if not await self._mirror.mailboxes():
                await self._take_list(await self._list())
            watch = await self._mirror.backend.watch(await self._mirror.mailboxes())
        try:
            await self._state.connected(watch.mode)
            await until_one_ends(
                self._listener.receive(watch),
                self._listener.act(partial(self._report_live, watch)),
                self._keep_up(watch),
                self._previews.run(),
                self._reports.run(),
                self._rereader.run(),
            )
        finally:
            await watch.close()

    async def _last_event_ms(self) -> int:
        """When the previous holder of the lease last wrote to the index, in ms."""
        return (await self._mirror.reader.mailboxes.standing(self._mirror.account_id)).at_ms

    def _note_contact(self) -> None:
        if self._mirror.unheard_since_ms is None:
            self._contact_ms = now_ms()

    def _want(self, new: Sequence[Location], arrived: Sequence[Arrived]) -> None:
        self._previews.want(new)
        self._reports.want(arrived)
        self._rereader.want(arrived)

    async def _report_live(self, watch: Watch) -> None:
        if self._is_live:
            await self._state.live(watch.mode)

    # ---- keeping up

    async def _keep_up(self, watch: Watch) -> None:
        """Catch up, run initial syncs, and compare all mailboxes regularly."""
        async with self._limiters.connecting.entered(self._mirror.backend.host):
            await self._catch_up()
        while True:
            await self._fill_all()
            if not self._is_live:
                await self._state.live(watch.mode)
                self._is_live = True
                self._previews.want_whole()
                self._previews.want_of(mailbox.id for mailbox in first_sync_order(await self._mirror.mailboxes()))
            await self._quotas.check()
            await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        """Wait for an initial sync or the next full comparison. Meanwhile compare mailboxes without MODSEQ."""
        check_at = time.monotonic() + await self._check_seconds()
        while not self._has_work.is_set():
            try:
                async with asyncio.timeout(min(max(0.0, check_at - time.monotonic()), self._flag_polling.seconds)):
                    await self._has_work.wait()
            except TimeoutError:
                if time.monotonic() >= check_at:
                    await self._catch_up()
                    return
                async with self._mirror.lock:
                    await self._refresher.refresh(self._flag_polling.due(await self._mirror.mailboxes()), {})
        self._has_work.clear()

    async def _check_seconds(self) -> float:
        """Time until all mailboxes are compared again: shorter, but growing, while one cannot be read."""
        mailboxes = await self._mirror.mailboxes()
        if not any(self._is_unfilled(mailbox) or mailbox.problem is not None for mailbox in mailboxes):
            self._retries = 0
            return CHECK_SECONDS
        self._retries += 1
        return min(CHECK_SECONDS, RETRY_SECONDS * float(1 << min(self._retries - 1, 10)))

    async def _catch_up(self) -> None:
        """Compare all mailboxes by LIST and STATUS, and update those that differ."""
        async with self._mirror.lock:
            listed = await self._list()
            gone = await self._take_list(listed)
            known = await self._mirror.mailboxes()
            changed = [mailbox for mailbox in known if mailbox.is_selectable and _has_changed(mailbox, listed)]
            await self._refresher.refresh(changed, listed)
            if gone:
                await self._delete(gone)
            await self._reconcile(listed)
            await self._judge(listed)
            self._mirror.unheard_since_ms = None
            self._note_contact()
        if any(self._is_unfilled(mailbox) for mailbox in await self._mirror.mailboxes()):
            self._has_work.set()

    async def _list(self) -> ListedMailboxes:
        """All mailboxes on the mail server, by name. Raises ServerProtocolError for a list without INBOX."""
        listed = {mailbox.origin_name: mailbox for mailbox in await self._mirror.backend.list_mailboxes()}
        if "INBOX" not in listed:
            raise ServerProtocolError("The mail server lists no INBOX")
        return listed

    async def _list_and_write(self) -> ListedMailboxes:
        """List the mailboxes and write new ones to the index."""
        listed = await self._list()
        await self._take_list(listed)
        return listed

    async def _take_list(self, listed: ListedMailboxes) -> tuple[Mailbox, ...]:
        """Write new, renamed and reset mailboxes. Return those that are missing from the list."""
        mailboxes = list(listed.values())
        known = await self._mirror.mailboxes()
        if renamed := renames(known, mailboxes):
            await self._mirror.apply(Delta(mailboxes_renamed=renamed))
            known = await self._mirror.mailboxes()
        changes = list_changes(known, mailboxes)
        delta = changes.delta
        if delta.mailboxes_reset:
            ids = [reset.mailbox_id for reset in delta.mailboxes_reset]
            metadata = await self._mirror.reader.mirrored.metadata(self._mirror.account_id)
            delta += Delta(notes=(Note(AccountResync(ids, metadata), self._mirror.account_id),))
        if delta:
            await self._mirror.apply(delta)
        begun = beginnings(await self._mirror.mailboxes(), listed)
        if begun:
            await self._mirror.apply(Delta(mailboxes_counted=begun))
        return changes.gone

    async def _delete(self, gone: tuple[Mailbox, ...]) -> None:
        """Delete mailboxes that a second list lacks too, after looking for their messages in other mailboxes."""
        await self._arrivals.look_elsewhere(self._list_and_write)
        listed = await self._list()
        self._unlisted = Counter(
            {mailbox.id: self._unlisted[mailbox.id] for mailbox in gone if mailbox.origin_name not in listed}
        )
        deleted = [mailbox for mailbox in gone if mailbox.origin_name not in listed and await self._is_gone(mailbox)]
        await self._mirror.apply(Delta(mailboxes_deleted=tuple(MailboxDeleted(mailbox.id) for mailbox in deleted)))

    async def _is_gone(self, mailbox: Mailbox) -> bool:
        """Whether an unlisted mailbox cannot be opened either: a list may lack lines.

        A mailbox that can be opened but stays unlisted counts as deleted, too.
        """
        self._unlisted[mailbox.id] += 1
        if not mailbox.is_selectable or self._unlisted[mailbox.id] >= UNLISTED_LIMIT:
            return True
        try:
            await self._mirror.backend.present(mailbox, (1,))
        except MailboxNotFound:
            return True
        except MAILBOX_FAULTS:
            return False
        return False

    async def _reconcile(self, listed: ListedMailboxes) -> None:
        mailboxes = await self._mirror.mailboxes()
        if any(is_ahead(item, listed.get(item.origin_name)) for item in mailboxes):
            listed = await self._come_back(mailboxes)
        for mailbox in await self._mirror.mailboxes():
            now = listed.get(mailbox.origin_name)
            if now is not None and mailbox.is_complete and is_miscounted(mailbox, now):
                await self._arrivals.aside.tolerate(mailbox, RECONCILE, self._refresher.reconcile(mailbox))

    async def _judge(self, listed: ListedMailboxes) -> None:
        """Mark mailboxes whose STATUS the server does not report, and clear the problems of those that match."""
        for mailbox in await self._mirror.mailboxes():
            now = listed.get(mailbox.origin_name)
            if now is None or not mailbox.is_selectable:
                continue
            if not self._mirror.has_begun(mailbox):
                await self._arrivals.aside.note(mailbox, NUMBERS, NO_NUMBERS, is_certain=True)
            elif mailbox.is_complete and now.total is not None and not _has_changed(mailbox, listed):
                await self._arrivals.aside.clear(mailbox)
            else:
                await self._arrivals.aside.clear(mailbox, NUMBERS)

    async def _come_back(self, mailboxes: Sequence[Mailbox]) -> ListedMailboxes:
        """Accept a UIDNEXT lower than the known one: new mail below the old value would be missed."""
        listed = await self._list()
        ahead = [item for item in mailboxes if is_ahead(item, listed.get(item.origin_name))]
        for mailbox in ahead:
            log.warning("uid_next_came_back", account_id=self._mirror.account_id, mailbox_id=mailbox.id)
        back = tuple(MailboxCounted(item.id, listed[item.origin_name].uid_next) for item in ahead)
        await self._mirror.apply(Delta(mailboxes_counted=back))
        for mailbox in ahead:  # new mail may have the UID of a known message
            await self._arrivals.aside.tolerate(mailbox, "newest", self._refresher.replace_reused(mailbox))
        return listed

    # ---- initial sync

    def _is_unfilled(self, mailbox: Mailbox) -> bool:
        return mailbox.is_selectable and not mailbox.is_complete and self._mirror.has_begun(mailbox)

    async def _fill_all(self) -> None:
        """Run the initial sync of every mailbox that lacks it; one that fails is tried again later."""
        attempts: Counter[str] = Counter()
        progress = Progress()
        while unfilled := [
            item
            for item in first_sync_order(await self._mirror.mailboxes())
            if self._is_unfilled(item) and attempts[item.id] < FILL_ATTEMPTS
        ]:
            mailbox = unfilled[0]
            attempts[mailbox.id] += 1
            async with self._limiters.filling.entered(self._mirror.backend.host):
                filling = fill(self._mirror, self._arrivals, self._refresher, mailbox, progress)
                is_filled = await self._arrivals.aside.tolerate(mailbox, FILL, filling)
            if is_filled:
                self._previews.want_of([mailbox.id])
                self._rereader.look()
            elif is_filled is False:
                await self._catch_up()


def _has_changed(mailbox: Mailbox, listed: ListedMailboxes) -> bool:
    now = listed.get(mailbox.origin_name)
    return now is not None and now.uid_validity == mailbox.uid_validity and differs(mailbox, now)
