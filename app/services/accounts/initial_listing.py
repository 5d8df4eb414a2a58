"""The first lists of a new account: while the index has nothing of a list, its mail server is asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from app.cluster.bus import Bus, listening
from app.errors import LoginRefused, MailServerError, SyncPending
from app.mail.backend import Backends, MailBackend, OriginMailbox
from app.mail.pop3 import poll_topic
from app.mail.types import AccountId, AccountKind, Role
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.reading.mailboxes import IndexStatus
from app.mirror.account import Mirror
from app.mirror.listing import take_first_list

FIRST_SECONDS = 10.0
"""How long the first list may take."""
LOOK_SECONDS = 1.0
"""How long a lost wake-up can delay it."""


class InitialListing:
    """Asks the mail server for lists that are empty only because nothing was synced yet."""

    def __init__(self, backends: Backends, index: Index, reader: MailReader, bus: Bus) -> None:
        self._backends = backends
        self._index = index
        self._reader = reader
        self._bus = bus

    async def is_unknown(self, account_id: AccountId, standing: IndexStatus, mailbox_id: str | None) -> bool:
        """Whether the index has no message of a list, without knowing that the list is empty."""
        if standing.sync_status == "live" or standing.is_complete:
            return False
        if not await self._reader.mailboxes.is_empty(account_id, mailbox_id):
            return False
        if mailbox_id is not None:
            return True
        mailboxes = await self._reader.mailboxes.mailboxes(account_id)
        return not mailboxes or any(mailbox.is_selectable and not mailbox.is_complete for mailbox in mailboxes)

    async def mailboxes(self, account_id: AccountId) -> bool:
        """Write the mailboxes of a new account to the index. Return whether the mail server was just asked for them.

        Raises SyncPending, LoginRefused.
        """
        standing = await self._reader.mailboxes.standing(account_id)
        if AccountKind(standing.kind).is_kept_here or standing.sync_status in ("live", "paused"):
            return False
        known = await self._reader.mailboxes.mailboxes(account_id)
        if any(mailbox.role is Role.INBOX and (mailbox.is_complete or mailbox.uid_next > 1) for mailbox in known):
            return False
        await in_time(self._take_list(account_id))
        return True

    async def _take_list(self, account_id: AccountId) -> None:
        await self.take_list(await self._backends.of(account_id), account_id)

    async def take_list(self, backend: MailBackend, account_id: AccountId) -> Mapping[str, OriginMailbox]:
        """Write the mailboxes that the server lists, and where the initial sync of each begins.

        Return the list by name.
        """
        listed = await backend.list_mailboxes()
        await take_first_list(Mirror(account_id, self._index, self._reader, backend), listed)
        return {mailbox.origin_name: mailbox for mailbox in listed}

    async def first_poll(self, account_id: AccountId) -> None:
        """Wait until a worker has begun to fetch the mail of a POP3 server. Raises SyncPending."""
        with listening(self._bus, account_id) as waiter:
            self._bus.poke(poll_topic(account_id))
            async with asyncio.timeout(FIRST_SECONDS):
                while await self._is_awaited(account_id):
                    await waiter.wait(LOOK_SECONDS)

    async def _is_awaited(self, account_id: AccountId) -> bool:
        mailboxes = await self._reader.mailboxes.mailboxes(account_id)
        is_read = all(mailbox.is_complete for mailbox in mailboxes if mailbox.role is Role.INBOX)
        return not is_read and await self._reader.mailboxes.is_empty(account_id, None)


async def in_time(asking: Awaitable[None]) -> None:
    """Await it for at most FIRST_SECONDS. Raises LoginRefused; SyncPending if no answer comes in time."""
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            await asking
    except LoginRefused:
        raise
    except (MailServerError, TimeoutError) as error:
        raise SyncPending from error
