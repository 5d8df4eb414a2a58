"""What changed in one mailbox: flags and removals since a MODSEQ, else the flags as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import fetched
from app.backends.imap.searching import uids_of
from app.backends.imap.selected import Selected
from app.backends.imap.session import Session
from app.mail.roster import Roster
from app.wire.imap.commands import KnownState
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.responses import Vanished
from app.wire.imap.sets import SequenceSet

FLAGS_AT_ONCE = 500
MAX_VANISHED = 250_000
"""Removals that are told one by one; where there are more, what is there is asked."""


@dataclass(frozen=True, slots=True)
class Since:
    """What changed in a mailbox. `vanished` None: the server can't tell."""

    selected: Selected
    flags: Roster
    vanished: frozenset[int] | None


async def flags_of(session: Session, name: str, uids: Sequence[int]) -> Roster:
    """UID → flags (and MODSEQ where it is kept) of these messages, as far as they are there."""
    items = ["UID", "FLAGS", *(["MODSEQ"] if session.keeps_modseq else [])]
    found = Roster()
    for start in range(0, len(uids), FLAGS_AT_ONCE):
        fill(found, await session.fetch(name, SequenceSet.of(uids[start : start + FLAGS_AT_ONCE]), items))
        await asyncio.sleep(0)
    return found


def fill(roster: Roster, found: Mapping[int, FetchedMessage]) -> Roster:
    """Note what was fetched of flags."""
    for uid, message in sorted(found.items()):
        if message.flags is not None:
            roster.put(uid, message.flags, message.modseq or 0)
    return roster


async def changes_since(session: Session, name: str, known: KnownState) -> Since:
    """QRESYNC: all of it in one SELECT; CONDSTORE: flags by CHANGEDSINCE; else the flags of every message."""
    if known.modseq and session.has("QRESYNC"):
        selected, completion = await session.select(name, known=known)
        return Since(selected, fill(Roster(), fetched(completion)), _vanished(session, completion))
    selected, _ = await session.select(name)
    if selected.uid_validity != known.uid_validity:
        return Since(selected, Roster(), None)
    if known.modseq and selected.highest_modseq:
        everything = SequenceSet.parse("1:*")
        items = ("UID", "FLAGS", "MODSEQ")
        changed = await session.fetch(name, everything, items, changed_since=known.modseq)
        return Since(selected, fill(Roster(), changed), None)
    flags = await flags_of(session, name, await uids_of(session, name))
    if not selected.uid_next:  # SELECT need not tell it (RFC 3501 §6.3.1), and Courier doesn't
        selected.uid_next = max(flags, default=0) + 1
    return Since(selected, flags, None)


def _vanished(session: Session, completion: Completion) -> frozenset[int] | None:
    gone: set[int] = set()
    for response in session.parsed(completion):
        if isinstance(response, Vanished):
            if len(gone) + len(response.uids) > MAX_VANISHED:
                return None
            gone.update(response.uids.numbers(MAX_VANISHED))
    return frozenset(gone)
