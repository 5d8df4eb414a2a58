"""Follows one account: watch, catch up, write what is heard; and again when the connection was lost."""

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
from app.mirror.arrivals import Arrivals, Told
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
from app.workers.sync.listening import Listener
from app.workers.sync.previews import Previews
from app.workers.sync.quotas import QuotaReporter
from app.workers.sync.refresh import Refresher
from app.workers.sync.reports import ReportReader
from app.workers.sync.rereading import Rereader
from app.workers.sync.state import AccountState
from app.workers.text_indexer import TextReader

log = get_logger(__name__)

CHECK_SECONDS = 600.0
"""How often all mailboxes are compared by their numbers, for what a watch may have lost."""
RETRY_SECONDS = 30.0
"""How soon a mailbox that could not be read is tried again; then each time twice as late, up to CHECK_SECONDS."""
FILL_ATTEMPTS = 2
NO_NUMBERS = "The mail server lists this mailbox and does not say what it holds"
UNLISTED_LIMIT = 3
"""After so many lists that lack it a mailbox is gone, though it can be opened."""


class AccountSync:
    """One account, held under the lease `epoch`, until it is cancelled or cannot go on."""

    def __init__(
        self,
        account_id: AccountId,
        index: Index,
        reader: MailReader,
        backend: MailBackend,
        epoch: int,
        gates: Limiters,
        delays: Callable[[], Iterator[float]] = reconnect_delays,
        texts: TextReader | None = None,
    ) -> None:
        self._mirror = Mirror(account_id, index, reader, backend, epoch)
        self._state = AccountState(account_id, index, epoch)
        self._gates = gates
        self._delays = delays
        self._previews = Previews(self._mirror, texts)
        self._reports = ReportReader(self._mirror)
        self._rereader = Rereader(self._mirror, self._want)
        self._arrivals = Arrivals(self._mirror, self._want)
        self._refresher = Refresher(self._mirror, self._arrivals, self._ask_anew)
        self._quotas = QuotaReporter(self._mirror)
        self._listener = Listener(self._mirror, self._arrivals, self._refresher, self._catch_up, self._note_heard)
        self._unheard = FlagPolling()
        self._has_work = asyncio.Event()
        self._unlisted: Counter[str] = Counter()
        """How often in a row a mailbox was not listed that can be opened."""
        self._retries = 0
        self._is_live = False
        self._heard_ms = 0

    async def run(self) -> None:
        """Follow for ever. Returns when the login is refused, the account is gone or another worker holds it."""
        delays = self._delays()
        while True:
            try:
                self._heard_ms = self._heard_ms or await self._last_event_ms()
                await self._follow()
            except LoginRefused as error:
                await self._state.refused(error)
                return
            except (AccountNotFound, Conflict):
                return
            except Unavailable:
                raise  # the database or the disk: no fault of the mail server
            except GatewayError as error:
                log.info("account_lost", account_id=self._mirror.account_id, error=error.code)
                await self._state.lost(error)
                patience = spread(error.retry_after_seconds) if isinstance(error, RateLimited) else 0.0
            if self._is_live:
                self._is_live = False
                delays = self._delays()
            await asyncio.sleep(max(next(delays), patience))

    async def _follow(self) -> None:
        """One connection's life. Ends by an error."""
        self._mirror.unheard_since_ms = self._heard_ms
        async with self._gates.connecting.entered(self._mirror.backend.host):
            if not await self._mirror.mailboxes():
                await self._take_list(await self._ask())
            watch = await self._mirror.backend.watch(await self._mirror.mailboxes())
        try:
            await self._state.connected(watch.mode)
            await until_one_ends(
                self._listener.hear(watch),
                self._listener.act(partial(self._tell_live, watch)),
                self._keep_up(watch),
                self._previews.run(),
                self._reports.run(),
                self._rereader.run(),
            )
        finally:
            await watch.close()

    async def _last_event_ms(self) -> int:
        """When the previous holder of the lease last wrote something."""
        return (await self._mirror.reader.mailboxes.standing(self._mirror.account_id)).at_ms

    def _note_heard(self) -> None:
        if self._mirror.unheard_since_ms is None:
            self._heard_ms = now_ms()

    def _want(self, new: Sequence[Location], arrived: Sequence[Arrived]) -> None:
        self._previews.want(new)
        self._reports.want(arrived)
        self._rereader.want(arrived)

    async def _tell_live(self, watch: Watch) -> None:
        if self._is_live:
            await self._state.live(watch.mode)

    # ---- keeping up

    async def _keep_up(self, watch: Watch) -> None:
        """Catch up, fill what is new, and compare all now and then."""
        async with self._gates.connecting.entered(self._mirror.backend.host):
            await self._catch_up()
        while True:
            await self._fill_all()
            if not self._is_live:
                await self._state.live(watch.mode)
                self._is_live = True
                self._previews.want_whole()
                self._previews.want_of(mailbox.id for mailbox in first_sync_order(await self._mirror.mailboxes()))
            await self._quotas.check()
            await self._rest()

    async def _rest(self) -> None:
        """Until there is something to fill, or all have been compared; meanwhile compare mailboxes without MODSEQ."""
        check_at = time.monotonic() + await self._check_seconds()
        while not self._has_work.is_set():
            try:
                async with asyncio.timeout(min(max(0.0, check_at - time.monotonic()), self._unheard.seconds)):
                    await self._has_work.wait()
            except TimeoutError:
                if time.monotonic() >= check_at:
                    await self._catch_up()
                    return
                async with self._mirror.lock:
                    await self._refresher.refresh(self._unheard.due(await self._mirror.mailboxes()), {})
        self._has_work.clear()

    async def _check_seconds(self) -> float:
        """Until all mailboxes are compared again: sooner where one could not be read, and then more and more rarely."""
        mailboxes = await self._mirror.mailboxes()
        if not any(self._is_unfilled(mailbox) or mailbox.problem is not None for mailbox in mailboxes):
            self._retries = 0
            return CHECK_SECONDS
        self._retries += 1
        return min(CHECK_SECONDS, RETRY_SECONDS * float(1 << min(self._retries - 1, 10)))

    async def _catch_up(self) -> None:
        """Compare all mailboxes by list and numbers, and bring those up to date that differ."""
        async with self._mirror.lock:
            told = await self._ask()
            gone = await self._take_list(told)
            known = await self._mirror.mailboxes()
            changed = [mailbox for mailbox in known if mailbox.is_selectable and _has_changed(mailbox, told)]
            await self._refresher.refresh(changed, told)
            if gone:
                await self._delete(gone)
            await self._reconcile(told)
            await self._judge(told)
            self._mirror.unheard_since_ms = None
            self._note_heard()
        if any(self._is_unfilled(mailbox) for mailbox in await self._mirror.mailboxes()):
            self._has_work.set()

    async def _ask(self) -> Told:
        """All mailboxes of the origin, by name. A list without INBOX is no answer: nothing is deleted because of it."""
        told = {mailbox.origin_name: mailbox for mailbox in await self._mirror.backend.list_mailboxes()}
        if "INBOX" not in told:
            raise ServerProtocolError("The mail server lists no INBOX")
        return told

    async def _ask_anew(self) -> Told:
        """The same, with the mailboxes written that are new since then."""
        told = await self._ask()
        await self._take_list(told)
        return told

    async def _take_list(self, told: Told) -> tuple[Mailbox, ...]:
        """Write the mailboxes that are new, renamed or reset; those that are gone."""
        listed = list(told.values())
        known = await self._mirror.mailboxes()
        if renamed := renames(known, listed):
            await self._mirror.apply(Delta(mailboxes_renamed=renamed))
            known = await self._mirror.mailboxes()
        changes = list_changes(known, listed)
        delta = changes.delta
        if delta.mailboxes_reset:
            ids = [reset.mailbox_id for reset in delta.mailboxes_reset]
            metadata = await self._mirror.reader.mirrored.metadata(self._mirror.account_id)
            delta += Delta(notes=(Note(AccountResync(ids, metadata), self._mirror.account_id),))
        if delta:
            await self._mirror.apply(delta)
        begun = beginnings(await self._mirror.mailboxes(), told)
        if begun:
            await self._mirror.apply(Delta(mailboxes_counted=begun))
        return changes.gone

    async def _delete(self, gone: tuple[Mailbox, ...]) -> None:
        """Delete mailboxes that a second list lacks too, after their messages that went elsewhere are found there."""
        await self._arrivals.look_elsewhere(self._ask_anew)
        told = await self._ask()
        self._unlisted = Counter(
            {mailbox.id: self._unlisted[mailbox.id] for mailbox in gone if mailbox.origin_name not in told}
        )
        deleted = [mailbox for mailbox in gone if mailbox.origin_name not in told and await self._is_gone(mailbox)]
        await self._mirror.apply(Delta(mailboxes_deleted=tuple(MailboxDeleted(mailbox.id) for mailbox in deleted)))

    async def _is_gone(self, mailbox: Mailbox) -> bool:
        """Whether the origin does not open a mailbox either that it does not list: a list may lack lines.

        One that it opens and goes on not to list is gone too.
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

    async def _reconcile(self, told: Told) -> None:
        mailboxes = await self._mirror.mailboxes()
        if any(is_ahead(item, told.get(item.origin_name)) for item in mailboxes):
            told = await self._come_back(mailboxes)
        for mailbox in await self._mirror.mailboxes():
            now = told.get(mailbox.origin_name)
            if now is not None and mailbox.is_complete and is_miscounted(mailbox, now):
                await self._arrivals.aside.tolerate(mailbox, RECONCILE, self._refresher.reconcile(mailbox))

    async def _judge(self, told: Told) -> None:
        """Say of which mailboxes the server does not tell what they hold; those that are as it tells are all right."""
        for mailbox in await self._mirror.mailboxes():
            now = told.get(mailbox.origin_name)
            if now is None or not mailbox.is_selectable:
                continue
            if not self._mirror.has_begun(mailbox):
                await self._arrivals.aside.note(mailbox, NUMBERS, NO_NUMBERS, is_certain=True)
            elif mailbox.is_complete and now.total is not None and not _has_changed(mailbox, told):
                await self._arrivals.aside.clear(mailbox)
            else:
                await self._arrivals.aside.clear(mailbox, NUMBERS)

    async def _come_back(self, mailboxes: Sequence[Mailbox]) -> Told:
        """Believe the origin where it once told a higher UIDNEXT: new mail below that would not be seen."""
        told = await self._ask()
        ahead = [item for item in mailboxes if is_ahead(item, told.get(item.origin_name))]
        for mailbox in ahead:
            log.warning("uid_next_came_back", account_id=self._mirror.account_id, mailbox_id=mailbox.id)
        back = tuple(MailboxCounted(item.id, told[item.origin_name].uid_next) for item in ahead)
        await self._mirror.apply(Delta(mailboxes_counted=back))
        for mailbox in ahead:  # what it gives below may have the UID of a message that is known
            await self._arrivals.aside.tolerate(mailbox, "newest", self._refresher.replace_reused(mailbox))
        return told

    # ---- first syncs

    def _is_unfilled(self, mailbox: Mailbox) -> bool:
        return mailbox.is_selectable and not mailbox.is_complete and self._mirror.has_begun(mailbox)

    async def _fill_all(self) -> None:
        """Run the first sync of every mailbox that has not had it; one that fails is left for the next time."""
        attempts: Counter[str] = Counter()
        progress = Progress()
        while unfilled := [
            item
            for item in first_sync_order(await self._mirror.mailboxes())
            if self._is_unfilled(item) and attempts[item.id] < FILL_ATTEMPTS
        ]:
            mailbox = unfilled[0]
            attempts[mailbox.id] += 1
            async with self._gates.filling.entered(self._mirror.backend.host):
                filling = fill(self._mirror, self._arrivals, self._refresher, mailbox, progress)
                is_filled = await self._arrivals.aside.tolerate(mailbox, FILL, filling)
            if is_filled:
                self._previews.want_of([mailbox.id])
                self._rereader.look()
            elif is_filled is False:
                await self._catch_up()


def _has_changed(mailbox: Mailbox, told: Told) -> bool:
    now = told.get(mailbox.origin_name)
    return now is not None and now.uid_validity == mailbox.uid_validity and differs(mailbox, now)
