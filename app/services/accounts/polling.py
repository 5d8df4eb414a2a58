"""Polls a POP3 server at once, for a caller who does not want to wait for the worker's next poll."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.cluster.bus import Bus, listening
from app.errors import LoginRefused, NotSupported
from app.mail.identifiers import now_ms
from app.mail.pop3 import poll_topic
from app.mail.types import AccountId, AccountKind, Message, Position
from app.mailstore.log import EventLog
from app.mailstore.reader import MailReader
from app.mailstore.reading.mailboxes import IndexStatus
from app.services.access.callers import Caller
from app.services.accounts.accounts import Accounts, SyncState

LOOK_SECONDS = 5.0
"""How long a lost poke can delay the answer."""
ARRIVED_LIMIT = 500
"""New messages listed in one answer; `/changes` has all."""


@dataclass(frozen=True, slots=True)
class Polled:
    """The result of a poll. Not `is_done`: it was not finished in time, and continues. `position` is from before."""

    is_done: bool
    arrived: list[Message]
    position: Position
    sync: SyncState


class Polling:
    """Wakes the worker of an account, and waits for it."""

    def __init__(self, accounts: Accounts, reader: MailReader, log: EventLog, bus: Bus) -> None:
        self._accounts = accounts
        self._reader = reader
        self._log = log
        self._bus = bus

    async def poll(self, account_id: AccountId, caller: Caller, wait_seconds: float) -> Polled:
        """Poll the server now.

        Raises NotSupported for an account that is not POP3; LoginRefused if polling has stopped.
        """
        account = await self._accounts.get(account_id)
        if account.kind is not AccountKind.POP3:
            raise NotSupported("Only POP3 accounts are polled: other accounts are synced continuously")
        if account.status == "auth_required":
            raise LoginRefused("The mail server refused the login: update the password first")
        before = await self._reader.mailboxes.standing(account_id)
        with listening(self._bus, account_id) as waiter:
            asked_at_ms, until = now_ms(), time.monotonic() + wait_seconds
            self._bus.poke(poll_topic(account_id))
            standing = before
            while not _is_settled(before, standing, asked_at_ms) and (remaining := until - time.monotonic()) > 0:
                await waiter.wait(min(remaining, LOOK_SECONDS))
                standing = await self._reader.mailboxes.standing(account_id)
        sync = await self._accounts.sync(account_id)
        is_done = standing.checked_at_ms >= asked_at_ms
        return Polled(is_done, await self._arrived(account_id, caller, before.position), before.position, sync)

    async def _arrived(self, account_id: AccountId, caller: Caller, position: Position) -> list[Message]:
        events = await self._log.after(account_id, position.seq, ARRIVED_LIMIT)
        ids = [event.subject for event in events if event.type == "message.created"]
        return [
            message
            for message in await self._reader.messages.find(account_id, ids)
            if caller.sees_mailbox(message.mailbox_id)
        ]


def _is_settled(before: IndexStatus, now: IndexStatus, asked_at_ms: int) -> bool:
    """Whether the server was polled since, or has just become unreachable."""
    return now.checked_at_ms >= asked_at_ms or (now.sync_status == "down" and before.sync_status != "down")
