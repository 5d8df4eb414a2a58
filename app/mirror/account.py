"""An external account: compares its mail server (the origin) with the index."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from app.errors import NotStorable
from app.mail.backend import MailBackend
from app.mail.confirmed import Applied
from app.mail.delta import Delta
from app.mail.types import AccountId, Mailbox
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.telemetry import get_logger

log = get_logger(__name__)

FACTS_AT_ONCE = 100
"""Facts of one transaction: about 20 ms of writing, so that a caller's write never waits longer."""


@dataclass(slots=True)
class Mirror:
    """Compares the mail server of one account with the index.

    `lock` is held while a complete mailbox is compared: two comparisons would undo each other. `epoch` is that of the
    lease under which a worker writes; None for writes on behalf of a caller. `unheard_since_ms`: when contact with
    the mail server was lost; None once everything is synced again.
    """

    account_id: AccountId
    index: Index
    reader: MailReader
    backend: MailBackend
    epoch: int | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unheard_since_ms: int | None = None

    async def apply(self, delta: Delta) -> Applied:
        """Write a Delta in one transaction. Raises Conflict when another worker holds the account, AccountNotFound.

        If the database rejects a value, each fact is written by itself, and rejected facts are left out.
        """
        try:
            return await self.index.apply(self.account_id, delta, fence=self.epoch)
        except NotStorable:
            log.warning("batch_refused", account_id=self.account_id, facts=delta.facts)
        together = Applied()
        for single in delta.singles():
            applied = await self._apply_single(single)
            together.mailbox_ids |= applied.mailbox_ids
            together.message_ids |= applied.message_ids
            together.copies |= applied.copies
        return together

    async def _apply_single(self, single: Delta) -> Applied:
        """Write one fact. A rejected one is written without its texts, or left out if it has none."""
        bare = single.bare()
        for delta in (single, bare) if bare != single else (single,):
            try:
                return await self.index.apply(self.account_id, delta, fence=self.epoch)
            except NotStorable:
                log.warning("fact_refused", account_id=self.account_id, **_named(delta))
        return Applied()

    async def apply_in_pieces(self, delta: Delta) -> None:
        """Write a large Delta in several transactions, the mailboxes' numbers (`mailboxes_counted`) last."""
        for piece in pieces(delta):
            await self.apply(piece)

    async def mailboxes(self) -> list[Mailbox]:
        return await self.reader.mailboxes.mailboxes(self.account_id)

    async def mailbox(self, mailbox: Mailbox) -> Mailbox:
        """Return the mailbox as the index has it now. Raises MailboxNotFound."""
        return await self.reader.mailboxes.mailbox(self.account_id, mailbox.id)

    def has_begun(self, mailbox: Mailbox) -> bool:
        """Whether the initial sync has begun, so that it is known from which UID on messages are new mail."""
        return mailbox.is_complete or mailbox.uid_next > 1 or mailbox.is_newcomer


def _named(single: Delta) -> dict[str, object]:
    """Describe a fact for the log by its kind and location, never by its text."""
    kind = next(item.name for item in fields(single) if getattr(single, item.name))
    fact = getattr(single, kind)[0]
    place = getattr(fact, "location", fact)
    names = ("mailbox_id", "uid")
    return {"fact": kind} | {name: getattr(place, name) for name in names if hasattr(place, name)}


def pieces(delta: Delta, at_once: int = FACTS_AT_ONCE) -> Iterator[Delta]:
    """Yield the same facts in the same order, at most `at_once` of one kind in each; a small Delta is not divided.

    The last one has the mailboxes' counts and the notes, which concern all of them.
    """
    counted = Delta(mailboxes_counted=delta.mailboxes_counted, notes=delta.notes)
    rest = replace(delta, mailboxes_counted=(), notes=())
    largest = max(len(getattr(rest, item.name)) for item in fields(rest))
    if largest <= at_once:
        if delta:
            yield delta
        return
    for item in fields(rest):
        facts = getattr(rest, item.name)
        for start in range(0, len(facts), at_once):
            piece: dict[str, Any] = {item.name: facts[start : start + at_once]}
            yield Delta(**piece)
    if counted:
        yield counted
