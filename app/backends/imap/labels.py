"""Mailboxes that are labels, as on Gmail (X-GM-EXT-1): one message in several of them, and what that makes of changes.

A message is shown in All Mail and under each of its labels. Taking it out of a label's mailbox takes that label off;
All Mail and Sent keep it. Trash and Junk strip its labels, and only what is removed there is gone for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.backends.imap.removing import expunge
from app.backends.imap.selectable import SelectableMailbox
from app.backends.imap.session import Session
from app.backends.imap.transferring import move
from app.mail.delta import Delta, Location, Moved, Placed, Removed
from app.mail.types import Mailbox, Role
from app.wire.imap.sets import SequenceSet

_KEEPING = (Role.ALL, Role.SENT)
"""What is moved out of these stays in them."""
_ENDING = (Role.TRASH, Role.JUNK)
"""What is removed from these is gone."""
_ITEMS = ("UID", "FLAGS", "MODSEQ", "X-GM-MSGID")


def are_mailboxes(session: Session) -> bool:
    """Whether this server's mailboxes are labels."""
    return session.has("X-GM-EXT-1")


def is_keeping(session: Session, mailbox: Mailbox) -> bool:
    """Whether what is moved out of a mailbox stays there: then to move is to copy."""
    return mailbox.role in _KEEPING and are_mailboxes(session)


async def placements(session: Session, mailbox: Mailbox, uids: Sequence[int]) -> list[Placed]:
    """Flags and identity of these messages, as far as they are there."""
    found = await session.fetch(mailbox.origin_name, SequenceSet.of(uids), _ITEMS) if uids else {}
    validity = session.selected.uid_validity if session.selected else None
    return [
        Placed(mailbox.id, uid, one.flags, str(one.gmail_message_id), one.modseq or 0, validity)
        for uid, one in sorted(found.items())
        if one.flags is not None and one.gmail_message_id is not None
    ]


async def remove_for_good(
    session: Session, mailboxes: Iterable[Mailbox], source: Mailbox, uids: Sequence[int]
) -> Delta | None:
    """Remove messages by way of Trash; None, and nothing done, where no such way is needed or there is no Trash."""
    trash = next((mailbox for mailbox in mailboxes if mailbox.role is Role.TRASH), None)
    if source.role in _ENDING or trash is None or not are_mailboxes(session):
        return None
    place = SelectableMailbox.of(source)
    pairs = (await move(session, place, uids, trash.origin_name)).pairs
    if pairs:
        await expunge(session, SelectableMailbox.of(trash), sorted(pairs.values()))
    gone = [Location(source.id, uid) for uid in uids if uid not in pairs]
    return Delta(
        moved=tuple(Moved(Location(source.id, uid), Location(trash.id, there)) for uid, there in pairs.items()),
        removed=tuple(Removed(at) for at in [*gone, *(Location(trash.id, uid) for uid in pairs.values())]),
    )
