"""Following the account's log: what other sessions, deliveries and the API changed, told when it may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.mail.types import SYSTEM_FLAGS, Flags
from app.mailstore.views import Change
from app.servers.conversation import Outlet
from app.servers.imap.session import Session
from app.servers.imap.view import MailboxView

CHANGES_LIMIT = 500
ROWS_LIMIT = 500


class MailboxLost(Exception):
    """The selected mailbox was deleted, or its UIDs are void: the session ends with BYE (RFC 2180 §3.3)."""


async def catch_up(session: Session) -> None:
    """Read the log to its end and note in the view, and for NOTIFY, what happened."""
    if session.view is None and session.watch is None:
        return
    while True:
        changes = await session.services.views.changes_after(session.account, session.seq, CHANGES_LIMIT)
        if changes and changes[0].seq != session.seq + 1:
            await _read_anew(session, changes[0].seq)
        for change in changes:
            _note(session, change)
        if changes:
            session.seq = changes[-1].seq
        if len(changes) < CHANGES_LIMIT:
            return


def _note(session: Session, change: Change) -> None:
    view = session.view
    if session.watch is not None:
        session.watch.note(change, view.mailbox_id if view else None)
    if view is None:
        return
    if change.type in ("mailbox.deleted", "mailbox.reset"):
        view.is_lost = view.is_lost or change.subject == view.mailbox_id
    elif change.mailbox_id == view.mailbox_id and change.uid is not None:
        _note_here(view, change, change.uid)
    if change.target_mailbox_id == view.mailbox_id and change.target_uid is not None:
        view.arrive(change.target_uid)


def _note_here(view: MailboxView, change: Change, uid: int) -> None:
    match change.type:
        case "message.created":
            view.arrive(uid)
        case "message.updated":
            view.flag(uid, change.seq)
        case "message.moved" | "message.deleted":
            view.remove(uid)


async def _read_anew(session: Session, seq: int) -> None:
    """Compare the view with the mailbox: the log was trimmed beyond where this session stood."""
    view = session.view
    if view is None:
        return
    rows = await session.services.views.states(session.account, view.mailbox_id, is_long=True)
    here = {row[0] for row in rows}
    for uid in [uid for uid in view.all_uids() if uid not in here]:
        view.remove(uid)
    for uid in sorted(here):
        if not view.arrive(uid):
            view.flag(uid, seq)


async def tell_news(session: Session, out: Outlet, *, may_expunge: bool) -> Sequence[int]:
    """Send EXPUNGE (where it may be), EXISTS, RECENT and FETCH for what was noted; the UIDs that are new.

    Raises MailboxLost.
    """
    view = session.view
    if view is None:
        return ()
    if view.is_lost:
        raise MailboxLost
    lines = [b"* %d EXPUNGE\r\n" % number for number in view.take_expunged()] if may_expunge else []
    fresh = view.take_arrivals()
    if fresh:
        view.recent.update(await recent_among(session, view, fresh))
        lines.append(b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.exists, len(view.recent)))
    flagged = view.take_flagged()
    for start in range(0, len(flagged), ROWS_LIMIT):
        lines += await flag_lines(session, view, flagged[start : start + ROWS_LIMIT])
    if lines:
        await out.send(b"".join(lines))
    return fresh


async def recent_among(session: Session, view: MailboxView, uids: Iterable[int]) -> set[int]:
    """Those of the UIDs that are recent to this session; unless it only examines, they are to no later one."""
    services = session.services
    if view.is_read_only:
        first = await services.views.recent_from(session.account, view.mailbox_id)
    else:
        first = await services.store.claim_recent(session.account, view.mailbox_id)
    return {uid for uid in uids if uid >= first}


async def flag_lines(session: Session, view: MailboxView, uids: Sequence[int]) -> list[bytes]:
    """FETCH answers with the flags that these messages have now; none for one that is gone."""
    columns = ("uid", "flags", "modseq")
    rows = await session.services.views.rows(session.account, view.mailbox_id, uids, columns)
    lines = new_keywords(view, (row[1] for row in rows))
    for uid, flags, modseq in rows:
        extra = b" MODSEQ (%d)" % modseq if session.has_condstore else b""
        shown = flag_list(flags, is_recent=uid in view.recent)
        lines.append(b"* %d FETCH (UID %d FLAGS %b%b)\r\n" % (view.number_of(uid), uid, shown, extra))
    return lines


def flag_list(flags: str, *, is_recent: bool) -> bytes:
    """The flags of a message, as its row spells them, in parentheses."""
    if is_recent:
        flags = f"{flags} \\Recent" if flags else "\\Recent"
    return b"(%b)" % flags.encode("ascii", "replace")


def new_keywords(view: MailboxView, flags: Iterable[str]) -> list[bytes]:
    """A FLAGS answer where a keyword comes up that the client was not told of (RFC 9051 §7.3.5)."""
    found = {flag for text in set(flags) for flag in text.split()} - view.keywords - set(SYSTEM_FLAGS)
    if not found:
        return []
    view.keywords |= found
    return [flags_line(view.keywords)]


def flags_line(keywords: Iterable[str]) -> bytes:
    return b"* FLAGS (%b)\r\n" % " ".join((*SYSTEM_FLAGS, *sorted(keywords))).encode("ascii", "replace")


def keywords_among(flags: Iterable[str]) -> Flags:
    """The keywords among rows of flags."""
    return frozenset(flag for text in set(flags) for flag in text.split()) - frozenset(SYSTEM_FLAGS)
