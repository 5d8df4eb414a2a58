"""Copies and moves messages between mailboxes of the index, and returns the Delta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.backends.imap import labels, transferring
from app.backends.imap.deltas import removed
from app.backends.imap.selectable import SelectableMailbox
from app.backends.imap.session import ClientSession
from app.backends.imap.transferring import Transfer
from app.mail.delta import Copied, Delta, Location, Moved
from app.mail.types import Mailbox, Message, Role


async def copy(session: ClientSession, source: Mailbox, messages: Sequence[Message], target: Mailbox) -> Delta:
    """Copy messages of one mailbox and return the Delta."""
    transfer = await transferring.copy(session, SelectableMailbox.of(source), _uids(messages), target.origin_name)
    pairs = await _bound(session, messages, transfer, target)
    is_shared = labels.are_mailboxes(session)
    return Delta(
        copied=tuple(
            Copied(Location(source.id, uid), Location(target.id, copied), is_shared=is_shared)
            for uid, copied in pairs.items()
        )
    )


async def move(session: ClientSession, source: Mailbox, messages: Sequence[Message], target: Mailbox) -> Delta:
    """Move messages of one mailbox and return the Delta. Messages in All Mail or Sent of Gmail are copied."""
    if labels.is_keeping(session, source) and target.role not in (Role.TRASH, Role.JUNK):
        return await copy(session, source, messages, target)
    uids = _uids(messages)
    transfer = await transferring.move(session, SelectableMailbox.of(source), uids, target.origin_name)
    pairs = await _bound(session, messages, transfer, target)
    return Delta(
        moved=tuple(Moved(Location(source.id, uid), Location(target.id, moved)) for uid, moved in pairs.items()),
        removed=removed(source, [uid for uid in uids if uid not in pairs]),
    )


def _uids(messages: Sequence[Message]) -> list[int]:
    return [message.uid for message in messages]


async def _bound(
    session: ClientSession, messages: Sequence[Message], transfer: Transfer, target: Mailbox
) -> Mapping[int, int]:
    """Source UID → target UID. UIDs that the server did not report are searched for."""
    if not transfer.unbound:
        return transfer.pairs
    unbound = [message for message in messages if message.uid in transfer.unbound]
    copies = await transferring.find_copies(session, target.origin_name, unbound, transfer.since_uid)
    return {**transfer.pairs, **copies}
