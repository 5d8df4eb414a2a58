"""Mailboxes that are labels, as on Gmail (X-GM-EXT-1): one message is in several mailboxes.

A message is in All Mail and in the mailbox of each of its labels. Removing it from a label's mailbox removes the label;
All Mail and Sent keep it. Trash and Junk remove its labels, and only expunging it moved deletes it permanently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.backends.imap.removing import expunge
from app.backends.imap.selectable import SelectableMailbox
from app.backends.imap.session import ClientSession
from app.backends.imap.transferring import move
from app.mail.delta import Delta, Location, Moved, Placed, Removed
from app.mail.types import Mailbox, Role
from app.wire.imap.sets import SequenceSet

_KEEPING = (Role.ALL, Role.SENT)
"""Messages that are moved out of these mailboxes stay in them."""
_ENDING = (Role.TRASH, Role.JUNK)
"""Messages that are expunged in these mailboxes are deleted permanently."""
_ITEMS = ("UID", "FLAGS", "MODSEQ", "X-GM-MSGID")


def are_mailboxes(session: ClientSession) -> bool:
    """Whether this server's mailboxes are labels."""
    return session.has("X-GM-EXT-1")


def is_keeping(session: ClientSession, mailbox: Mailbox) -> bool:
    """Whether messages stay in a mailbox when they are moved out of it, so that moving is copying."""
    return mailbox.role in _KEEPING and are_mailboxes(session)


async def placements(session: ClientSession, mailbox: Mailbox, uids: Sequence[int]) -> list[Placed]:
    """Flags and identity of those messages that exist."""
    messages = await session.fetch(mailbox.origin_name, SequenceSet.of(uids), _ITEMS) if uids else {}
    validity = session.selected.uid_validity if session.selected else None
    return [
        Placed(mailbox.id, uid, message.flags, str(message.gmail_message_id), message.modseq or 0, validity)
        for uid, message in sorted(messages.items())
        if message.flags is not None and message.gmail_message_id is not None
    ]


async def expunge_via_trash(
    session: ClientSession, mailboxes: Iterable[Mailbox], source: Mailbox, uids: Sequence[int]
) -> Delta | None:
    """Expunge messages by way of Trash. None, without a change, if that is not needed or not possible."""
    trash = next((mailbox for mailbox in mailboxes if mailbox.role is Role.TRASH), None)
    if source.role in _ENDING or trash is None or not are_mailboxes(session):
        return None
    mailbox = SelectableMailbox.of(source)
    pairs = (await move(session, mailbox, uids, trash.origin_name)).pairs
    if pairs:
        await expunge(session, SelectableMailbox.of(trash), sorted(pairs.values()))
    gone = [Location(source.id, uid) for uid in uids if uid not in pairs]
    return Delta(
        moved=tuple(Moved(Location(source.id, uid), Location(trash.id, moved)) for uid, moved in pairs.items()),
        removed=tuple(Removed(location) for location in [*gone, *(Location(trash.id, uid) for uid in pairs.values())]),
    )
