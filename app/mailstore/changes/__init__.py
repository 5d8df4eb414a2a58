"""Writes a Delta: rows, counts and events in one transaction, under the account's lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from app.db.session import Transaction
from app.mail.confirmed import Applied
from app.mail.delta import Delta
from app.mail.types import AccountId, Position
from app.mailstore.changes.arrivals import Arrivals
from app.mailstore.changes.context import ChangeContext
from app.mailstore.changes.held import HeldChanges
from app.mailstore.changes.mailboxes import MailboxWrites
from app.mailstore.changes.messages import MessageChanges
from app.mailstore.changes.places import Places
from app.mailstore.changes.texts import TextChanges
from app.mailstore.changes.threads import ThreadAssignment

__all__ = ["Applied", "write_delta"]

F = TypeVar("F")


async def write_delta(
    transaction: Transaction, account_id: AccountId, position: Position, delta: Delta, *, is_origin: bool
) -> Applied:
    """Apply the facts of a Delta, one kind after another. `position` is that of the account's last event.

    `is_origin`: an embedded account, whose index numbers messages itself.
    """
    ledger = ChangeContext(transaction, account_id, position, is_origin=is_origin)
    places, threads = Places(ledger), ThreadAssignment(ledger)
    mailboxes, messages, arrivals = (
        MailboxWrites(ledger, places),
        MessageChanges(ledger, places),
        Arrivals(ledger, places, threads),
    )
    await _each(mailboxes.find, delta.mailboxes_found)
    await _each(mailboxes.rename, delta.mailboxes_renamed)
    await _each(mailboxes.reset, delta.mailboxes_reset)
    await _each(mailboxes.set, delta.mailboxes_set)
    await _each(messages.move, delta.moved)
    await _each(messages.copy, delta.copied)
    await arrivals.arrive(delta.arrived)
    await arrivals.place(delta.placed)
    await messages.flag((*arrivals.flagged, *delta.flagged))
    await messages.remove(delta.removed)
    await _each(messages.preview, delta.previewed)
    await TextChanges(ledger).text(delta.texted)
    content_changes = HeldChanges(ledger, threads)
    await _each(content_changes.complete, delta.completed)
    await _each(content_changes.hold, delta.held)
    await _each(mailboxes.count, delta.mailboxes_counted)
    await _each(mailboxes.trouble, delta.mailboxes_troubled)
    await _each(mailboxes.delete, delta.mailboxes_deleted)
    await threads.announce()
    for note in delta.notes:
        ledger.event(note.event, note.subject)
    await ledger.close()
    ledger.applied.delta = delta
    return ledger.applied


async def _each(apply: Callable[[F], Awaitable[None]], facts: Iterable[F]) -> None:
    for fact in facts:
        await apply(fact)
