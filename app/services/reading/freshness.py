"""How fresh a list is: from the index if it is watched, else the mail server is asked first.

An embedded account is always fresh. A POP3 account's mailboxes are in the index, and a worker polls its server. For
others, a complete and watched mailbox is listed from the index; else one request asks for what is missing. If the
server does not answer in time, the list comes from the index and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from app.cluster.followers import Followers
from app.errors import MailServerError, TimedOut
from app.mail.backend import Backends, MailBackend, OriginMailbox, SyncMode
from app.mail.delta import Arrived, Delta, Flagged, Known, Location, Removed
from app.mail.identifiers import now_ms
from app.mail.types import AccountId, AccountKind, Mailbox, Role
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.reading.mailboxes import IndexStatus
from app.mirror.account import Mirror
from app.mirror.arrivals import MirroredArrivals
from app.mirror.listing import beginnings, list_changes, renames
from app.mirror.moves import pass_on
from app.services.accounts.accounts import SyncState
from app.services.accounts.initial_listing import InitialListing, in_time

ASK_SECONDS = 2.0
REST_SECONDS = 5.0
"""How long a server that did not answer is not asked again, unless a caller insists."""
MAILBOXES_LIMIT = 5
"""The most mailboxes that are asked about for a list over all of them."""
COUNTED_MESSAGES = 100
"""The newest messages of each mailbox that are compared for the list of mailboxes."""
GONE_COUNT, GONE_SHARE = 50, 0.2
"""If more messages than both seem to be expunged, the sync worker has to verify it."""
SWEPT_SECONDS = 10.0
"""This long after an account is first followed, all of its mailboxes have been swept."""
_REST_LIMIT = 10_000


class Freshness:
    """Asks mail servers for lists."""

    def __init__(
        self, backends: Backends, index: Index, reader: MailReader, followers: Followers, beginning: InitialListing
    ) -> None:
        self._beginning = beginning
        self._followers = followers
        self._backends = backends
        self._index = index
        self._reader = reader
        self._resting: dict[AccountId, float] = {}

    async def settle(
        self,
        account_id: AccountId,
        standing: IndexStatus,
        mailbox_id: str | None,
        *,
        count: int,
        below_uid: int | None = None,
        is_forced: bool = False,
    ) -> tuple[IndexStatus, SyncState]:
        """Update the index if it may be stale, for a list of `count`. Return its status after that.

        Raises SyncPending if the index has nothing of the list and the server does not answer in time.
        """
        state = SyncState(standing.sync_status, SyncMode(standing.sync_mode), standing.checked_at_ms)
        kind = AccountKind(standing.kind)
        if kind is AccountKind.EMBEDDED:
            return standing, state
        if state.status != "paused" and await self._beginning.is_unknown(account_id, standing, mailbox_id):
            await in_time(self._ask_first(kind, account_id, mailbox_id, count))
            return await self._settled(account_id, mailbox_id, state)
        if kind is AccountKind.POP3:
            return standing, state
        self._followers.note(account_id)
        is_live = state.status == "live" and standing.is_complete is not False
        is_fresh = is_live and self._followers.seconds_followed(account_id) >= SWEPT_SECONDS
        if not is_forced and (is_fresh or state.status == "paused" or self._is_resting(account_id)):
            return standing, state
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._ask(account_id, mailbox_id, count, below_uid)
        except (MailServerError, TimeoutError) as error:
            self._rest(account_id)
            is_shown_live = is_live and not is_forced
            is_slow = isinstance(error, TimeoutError | TimedOut)  # which does not make it unreachable
            status = "live" if is_shown_live else _unconfirmed(state.status) if is_slow else "down"
            return standing, SyncState(status, state.mode, state.checked_at_ms)
        return await self._settled(account_id, mailbox_id, state)

    async def _settled(
        self, account_id: AccountId, mailbox_id: str | None, before: SyncState
    ) -> tuple[IndexStatus, SyncState]:
        """Return the status of the index right after the server was asked."""
        status = "initial" if before.status == "down" else before.status
        now = await self._reader.mailboxes.standing(account_id, mailbox_id)
        return now, SyncState(status, before.mode, now_ms())

    async def settle_mailboxes(self, account_id: AccountId) -> None:
        """Like `settle`, for the list of mailboxes with their counts."""
        if await self._beginning.mailboxes(account_id):
            return
        standing = await self._reader.mailboxes.standing(account_id)
        if not await self._beginning.is_unknown(account_id, standing, None):
            await self.settle(account_id, standing, None, count=COUNTED_MESSAGES)

    def _is_resting(self, account_id: AccountId) -> bool:
        return self._resting.get(account_id, 0.0) > time.monotonic()

    def _rest(self, account_id: AccountId) -> None:
        if len(self._resting) >= _REST_LIMIT:
            self._resting.clear()
        self._resting[account_id] = time.monotonic() + REST_SECONDS

    async def _ask_first(self, kind: AccountKind, account_id: AccountId, mailbox_id: str | None, count: int) -> None:
        """Ask for a list of which the index has nothing, perhaps not even the mailboxes."""
        self._followers.note(account_id)
        if kind is AccountKind.POP3:
            await self._beginning.first_poll(account_id)
            return
        known = await self._reader.mailboxes.mailboxes(account_id)
        listed = None if known else await self._beginning.take_list(await self._backends.of(account_id), account_id)
        await self._ask(account_id, mailbox_id, count, None, listed)

    async def _ask(
        self,
        account_id: AccountId,
        mailbox_id: str | None,
        count: int,
        below_uid: int | None,
        listed: Mapping[str, OriginMailbox] | None = None,
    ) -> None:
        """`listed`: the server's mailboxes, if they were just listed."""
        backend = await self._backends.of(account_id)
        if mailbox_id is not None:
            await self._ask_about(
                backend, await self._reader.mailboxes.mailbox(account_id, mailbox_id), count, below_uid
            )
            return
        theirs = await _listed(backend) if listed is None else listed
        await self._write_new_mailboxes(account_id, theirs)
        mailboxes = await self._reader.mailboxes.mailboxes(account_id)
        changed = [item for item in mailboxes if item.is_selectable and _differs(item, theirs.get(item.origin_name))]
        for mailbox in sorted(changed, key=lambda item: item.role is not Role.INBOX)[:MAILBOXES_LIMIT]:
            below = None if below_uid is None else await self._lowest_uid(mailbox)
            await self._ask_about(backend, mailbox, count, below)

    async def _lowest_uid(self, mailbox: Mailbox) -> int | None:
        """Return where the next page of a list over all mailboxes continues in an incomplete one."""
        known = await self._reader.mirrored.known(mailbox.account_id, mailbox.id)
        return None if mailbox.is_complete else min(known, default=None)

    async def _write_new_mailboxes(self, account_id: AccountId, theirs: Mapping[str, OriginMailbox]) -> None:
        """Write new mailboxes. Renamed, deleted and recreated ones are left to the sync worker."""
        known = await self._reader.mailboxes.mailboxes(account_id)
        names = {mailbox.origin_name for mailbox in known}
        listed = [mailbox for name, mailbox in theirs.items() if name not in names]
        if not known or not listed or renames(known, list(theirs.values())):
            return
        await self._index.apply(account_id, list_changes(known, listed).delta)
        begun = beginnings(
            await self._reader.mailboxes.mailboxes(account_id), {item.origin_name: item for item in listed}
        )
        if begun:
            await self._index.apply(account_id, Delta(mailboxes_counted=begun))

    async def _ask_about(self, backend: MailBackend, mailbox: Mailbox, count: int, below_uid: int | None) -> None:
        known = await self._reader.mirrored.known(
            mailbox.account_id, mailbox.id
        )  # read first: messages that arrive meanwhile are not expunged
        newest = await backend.newest(mailbox, count, below_uid)
        delta = difference_of_newest(mailbox, newest, known, count, below_uid)
        mirror = Mirror(mailbox.account_id, self._index, self._reader, backend)
        arrivals = MirroredArrivals(mirror)
        await arrivals.write(delta.arrived)
        if delta.removed:  # they may have moved to a mailbox that was not checked yet
            await arrivals.look_elsewhere(partial(_listed, backend))
        ended = await pass_on(mirror, delta.removed)
        if rest := replace(delta, arrived=(), moved=ended.moved, removed=ended.removed):
            await mirror.apply(rest)


def _unconfirmed(status: str) -> str:
    """Return the status if the server has not answered in time: neither live nor down."""
    return "initial" if status == "live" else status


async def _listed(backend: MailBackend) -> Mapping[str, OriginMailbox]:
    return {mailbox.origin_name: mailbox for mailbox in await backend.list_mailboxes()}


def difference_of_newest(
    mailbox: Mailbox, newest: Sequence[Arrived], known: Mapping[int, Known], count: int, below_uid: int | None
) -> Delta:
    """Return how the server's newest `count` messages (below a UID) differ from the index.

    Messages of the index in their span that the server does not have are removed, unless they are suspiciously many.
    """
    if any(arrival.uid_validity not in (None, mailbox.uid_validity) for arrival in newest):
        return Delta()  # created again: the sync worker reports it
    newest_by_uid = {arrival.uid: arrival for arrival in newest}
    lowest = min(newest_by_uid) if len(newest_by_uid) >= count else 0
    span = [uid for uid in known if uid >= lowest and (below_uid is None or uid < below_uid)]
    gone = [uid for uid in span if uid not in newest_by_uid]
    if len(gone) > GONE_COUNT and len(gone) > GONE_SHARE * len(known):
        gone = []
    fresh = [_arrival(mailbox, arrival) for uid, arrival in sorted(newest_by_uid.items()) if uid not in known]
    flagged = [arrival for uid, arrival in newest_by_uid.items() if uid in known and known[uid].flags != arrival.flags]
    return Delta(
        arrived=tuple(fresh),
        flagged=tuple(Flagged(Location(mailbox.id, arrival.uid), arrival.flags, arrival.modseq) for arrival in flagged),
        removed=tuple(Removed(Location(mailbox.id, uid)) for uid in sorted(gone)),
    )


def _arrival(mailbox: Mailbox, arrival: Arrived) -> Arrived:
    """Announce new mail, but not messages that the initial sync has not reached."""
    has_begun = mailbox.is_newcomer or mailbox.uid_next > 1
    is_new = mailbox.is_complete or (has_begun and mailbox.uid_next <= arrival.uid)
    return replace(arrival, is_announced=is_new)


def _differs(ours: Mailbox, theirs: OriginMailbox | None) -> bool:
    if theirs is None:
        return False
    pairs = (
        (theirs.uid_next, ours.uid_next),
        (theirs.highest_modseq, ours.highest_modseq),
        (theirs.total, ours.total),
    )
    return not ours.is_complete or any(reported is not None and reported != known for reported, known in pairs)
