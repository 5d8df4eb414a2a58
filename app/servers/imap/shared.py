"""Shares the UIDs of each selected mailbox between sessions: they are read once and updated from the log.

A session that selects a mailbox which another session has open uses that session's array and applies later events.
An array lives as long as a session uses it. If several sessions open a mailbox at the same time, one reads it.
"""

from __future__ import annotations

import asyncio
from array import array
from weakref import WeakValueDictionary

from app.mail.types import AccountId, Mailbox, MailboxId
from app.mailstore.views import MailboxViews
from app.servers.imap.view import MailboxView, SharedUids

UIDS_AT_ONCE = 20_000
"""UIDs of one read."""
CHANGES_LIMIT, CHANGES_AT_ONCE = 2_000, 500
"""Events that are applied to an older array; if there are more, the mailbox is read again."""

_Key = tuple[AccountId, MailboxId]


class SharedMailboxes:
    """The shared arrays of all sessions in a process."""

    def __init__(self, views: MailboxViews) -> None:
        self._views = views
        self._newest: WeakValueDictionary[_Key, SharedUids] = WeakValueDictionary()
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def open(self, mailbox: Mailbox, seq: int, *, is_read_only: bool) -> MailboxView:
        """Return a view of the mailbox as of event `seq` of its account's log, or later."""
        key = (mailbox.account_id, mailbox.id)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            shared = self._newest.get(key)
            view = await self._view_on(shared, mailbox, seq, is_read_only=is_read_only) if shared else None
            if view is None:
                shared = SharedUids(await self.read_uids(*key), seq)
                self._newest[key] = shared
                view = MailboxView(mailbox.id, shared, is_read_only=is_read_only)
        return view

    async def _view_on(
        self, shared: SharedUids, mailbox: Mailbox, seq: int, *, is_read_only: bool
    ) -> MailboxView | None:
        """Return a view on an older array; None if the log does not reach from it to `seq`, or has too many events."""
        view = MailboxView(mailbox.id, shared, is_read_only=is_read_only)
        position = shared.seq
        if seq - position > CHANGES_LIMIT:
            return None
        while position < seq:
            changes = await self._views.changes_after(mailbox.account_id, position, CHANGES_AT_ONCE)
            if not changes or changes[0].seq != position + 1:
                return None
            for change in changes:
                view.note(change)
            position = changes[-1].seq
        view.settle()
        is_as_counted = position > seq or view.exists == mailbox.total
        return view if is_as_counted and not view.is_lost else None

    async def read_uids(self, account_id: AccountId, mailbox_id: MailboxId) -> array[int]:
        """Return the UIDs of all messages, read in pieces."""
        uids = array("I")
        while True:
            after = uids[-1] if uids else 0
            more = await self._views.uids_after(account_id, mailbox_id, after, UIDS_AT_ONCE)
            uids.extend(more)
            if len(more) < UIDS_AT_ONCE:
                return uids
