"""Converts results that the mail server confirmed to facts for the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.backends.imap import labels
from app.backends.imap.rows import Row
from app.backends.imap.session import ClientSession
from app.mail.delta import Arrived, Delta, Flagged, Location, Removed
from app.mail.types import Mailbox
from app.wire.imap.fetch import FetchedMessage


def arrived(session: ClientSession, mailbox: Mailbox, row: Row) -> Arrived:
    return Arrived(
        mailbox_id=mailbox.id,
        uid=row.uid,
        flags=row.flags,
        received_at_ms=row.received_at_ms,
        size_bytes=row.size_bytes,
        overview=row.overview,
        structure=row.structure,
        modseq=row.modseq,
        preview=None if row.unread is None else "",
        origin_id=row.origin_id,
        origin_thread_id=row.origin_thread_id,
        uid_validity=session.selected.uid_validity if session.selected else None,
        problems=row.problems,
        unread=row.unread,
        is_shared=row.origin_id is not None and labels.are_mailboxes(session),
    )


def flagged(mailbox: Mailbox, uids: Sequence[int], changed: Mapping[int, FetchedMessage]) -> Delta:
    """Facts for new flags (UID → message). UIDs without an entry in `changed` are removed."""
    return Delta(
        flagged=tuple(
            Flagged(Location(mailbox.id, uid), message.flags or frozenset(), message.modseq or 0)
            for uid, message in changed.items()
        ),
        removed=removed(mailbox, [uid for uid in uids if uid not in changed]),
    )


def removed(mailbox: Mailbox, uids: Sequence[int]) -> tuple[Removed, ...]:
    return tuple(Removed(Location(mailbox.id, uid)) for uid in uids)
