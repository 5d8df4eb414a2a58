"""Follows the account's log: reports changes by other sessions, deliveries and the API when the protocol allows."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache

from app.errors import Unavailable
from app.mail.types import SYSTEM_FLAGS, Flags
from app.mailstore.views import LoggedChange
from app.servers.conversation import ReplyWriter
from app.servers.imap.rows import read_rows
from app.servers.imap.session import ServerSession
from app.servers.imap.view import MailboxView
from app.wire.imap.sets import SequenceSet

CHANGES_LIMIT = 500
LINES_LIMIT = 500
"""EXPUNGE responses that are sent at a time."""


class MailboxLost(Exception):
    """The selected mailbox was deleted, or its UIDVALIDITY changed: the session ends with BYE (RFC 2180 §3.3)."""


async def catch_up(session: ServerSession) -> None:
    """Read the log to its end and note changes in the view and for NOTIFY."""
    while not await catch_up_some(session):
        pass


async def catch_up_some(session: ServerSession) -> bool:
    """Read up to `CHANGES_LIMIT` entries of the log and note their changes; return whether that was its end.

    A caller that sends the responses after each call bounds its memory.
    """
    if session.view is None and session.watch is None:
        return True
    changes = await session.services.views.changes_after(session.account, session.seq, CHANGES_LIMIT)
    if changes and changes[0].seq != session.seq + 1:
        await _compare_with_mailbox(session)
    for change in changes:
        _note(session, change)
    if changes:
        session.seq = changes[-1].seq
    await session.pace.spend(len(changes))
    return len(changes) < CHANGES_LIMIT


def _note(session: ServerSession, change: LoggedChange) -> None:
    view = session.view
    if session.watch is not None:
        session.watch.note(change, view.mailbox_id if view else None)
    if view is not None:
        view.note(change)


async def _compare_with_mailbox(session: ServerSession) -> None:
    """Compare the view with the mailbox, because the log was trimmed beyond the session's position."""
    view = session.view
    if view is None:
        return
    present = await session.services.shared.read_uids(session.account, view.mailbox_id)
    known = view.all_uids()
    gone = await asyncio.to_thread(_missing_from, present, known)
    for uid in gone:
        view.remove(uid)
        await session.pace.spend(1)
    for uid in present[bisect_right(present, view.last_uid) :]:
        view.arrive(uid)
    view.flag_all()


def _missing_from(present: Sequence[int], known: Sequence[int]) -> list[int]:
    return sorted(set(known).difference(present))


async def send_news(session: ServerSession, out: ReplyWriter, *, may_expunge: bool) -> None:
    """Send EXPUNGE or VANISHED (if allowed), EXISTS, RECENT and FETCH for noted changes.

    Raises MailboxLost, or Unavailable; then the next call sends the rest.
    """
    view = session.view
    if view is None:
        return
    if view.is_lost:
        raise MailboxLost
    while may_expunge and (lines := _expunged(session, view)):
        await out.send(lines)
        await session.pace.spend(LINES_LIMIT)
    if arrivals := view.arrivals():
        with suppress(Unavailable):  # then they are recent to a later session
            await claim_recent(session, view, arrivals)
        if session.watch is not None:
            view.fresh.extend(arrivals)
        view.take_arrivals()
        await out.send(b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.exists, view.recent_count))
    flagged = view.take_flagged()
    try:
        await send_flags(session, flagged, out)
    except Unavailable:
        view.flag_again(flagged, session.seq)
        raise


def _expunged(session: ServerSession, view: MailboxView) -> bytes:
    """Return EXPUNGE, or VANISHED with QRESYNC (RFC 7162 §3.2.10), for some messages; b"" if none is gone."""
    if not session.has_qresync:
        return b"".join([b"* %d EXPUNGE\r\n" % number for number in view.take_expunged(LINES_LIMIT)])
    uids = view.take_vanished(LINES_LIMIT)
    return b"* VANISHED %b\r\n" % str(SequenceSet.of(uids)).encode() if uids else b""


async def claim_recent(session: ServerSession, view: MailboxView, uids: Sequence[int]) -> None:
    """Note which of these ascending UIDs are recent to this session.

    Unless the mailbox is read-only, they are not recent to later sessions.
    """
    services = session.services
    if view.is_read_only:
        first = await services.views.recent_from(session.account, view.mailbox_id)
    else:
        first = await services.store.claim_recent(session.account, view.mailbox_id)
    if uids and first <= uids[-1]:
        view.recent.add(max(first, uids[0]), uids[-1])


async def send_flags(session: ServerSession, uids: Sequence[int], out: ReplyWriter) -> None:
    """Send FETCH responses with the current flags of these messages, without messages that are gone."""
    view = session.selected
    async for rows in read_rows(session, uids, ("uid", "flags", "modseq")):
        lines = new_keywords(view, (row.flags for row in rows))
        for row in rows:
            extra = b" MODSEQ (%d)" % row.modseq if session.has_condstore else b""
            current_flags = flag_list(row.flags, is_recent=row.uid in view.recent)
            lines.append(
                b"* %d FETCH (UID %d FLAGS %b%b)\r\n" % (view.number_of(row.uid), row.uid, current_flags, extra)
            )
        await out.send(b"".join(lines))
        await session.pace.spend(len(rows))


@lru_cache(maxsize=256)
def flag_list(flags: str, *, is_recent: bool) -> bytes:
    """Return a message's flags, as its row spells them, in parentheses."""
    if is_recent:
        flags = f"{flags} \\Recent" if flags else "\\Recent"
    return b"(%b)" % flags.encode("ascii", "replace")


def new_keywords(view: MailboxView, flags: Iterable[str]) -> list[bytes]:
    """Return a FLAGS response if there are keywords that the client does not know (RFC 9051 §7.3.5)."""
    keywords = {flag for text in set(flags) for flag in text.split()} - view.keywords - set(SYSTEM_FLAGS)
    if not keywords:
        return []
    view.keywords |= keywords
    return [flags_line(view.keywords)]


def flags_line(keywords: Iterable[str]) -> bytes:
    return b"* FLAGS (%b)\r\n" % " ".join((*SYSTEM_FLAGS, *sorted(keywords))).encode("ascii", "replace")


def keywords_among(flags: Iterable[str]) -> Flags:
    """Return the keywords among rows of flags."""
    return frozenset(flag for text in set(flags) for flag in text.split()) - frozenset(SYSTEM_FLAGS)
