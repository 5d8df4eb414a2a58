"""STORE and UID STORE."""

from __future__ import annotations

from app.errors import MalformedRequest
from app.mail.types import SYSTEM_FLAGS, Flags
from app.mailstore.store import FlagsStored, StoreMode
from app.servers.conversation import Outlet
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.news import ROWS_LIMIT, catch_up, flag_lines
from app.servers.imap.session import Session
from app.servers.imap.view import MailboxView
from app.wire.imap.requests import Store
from app.wire.imap.sets import SequenceSet

KEYWORD_LIMIT_CHARS = 255

_MODES = {"": StoreMode.REPLACE, "+": StoreMode.ADD, "-": StoreMode.REMOVE}
_SYSTEM = {flag.lower(): flag for flag in SYSTEM_FLAGS}


def read_flags(flags: tuple[str, ...]) -> Flags:
    """Flags as the store spells them; `\\Recent` is passed over. Raises MalformedRequest for what can be no flag."""
    found = set()
    for flag in flags:
        if len(flag) > KEYWORD_LIMIT_CHARS:
            raise MalformedRequest("A keyword is too long")
        known = _SYSTEM.get(flag.lower())
        if known is None and flag.startswith("\\") and flag.lower() != "\\recent":
            raise MalformedRequest("There is no such system flag")
        if known or not flag.startswith("\\"):
            found.add(known or flag)
    return frozenset(found)


async def store(session: Session, command: Store, out: Outlet) -> Completion:
    """STORE; with UNCHANGEDSINCE those that changed since are left alone and named (RFC 7162 §3.1.3)."""
    view = session.selected
    if view.is_read_only:
        raise CommandRefused("READ-ONLY", "The mailbox is only examined")
    session.has_condstore = session.has_condstore or command.unchanged_since is not None
    uids = view.resolve(command.messages, is_uid=command.is_uid)
    stored = await session.services.store.store_flags(
        session.account, view.mailbox_id, uids, _MODES[command.mode], read_flags(command.flags), command.unchanged_since
    )
    await catch_up(session)
    applied = stored.applied
    changed = [uid for uid in uids if uid not in set(stored.modified)]
    if command.is_silent:
        view.told_flags(changed, applied.seq, applied.seq_before)
    else:
        view.told_flags(changed, applied.seq)
    await _tell(session, view, changed, out, is_silent=command.is_silent)
    return _completion(view, command, uids, stored)


async def _tell(session: Session, view: MailboxView, uids: list[int], out: Outlet, *, is_silent: bool) -> None:
    """The flags that the messages have now; of a silent STORE no more than their MODSEQ, where that is wanted."""
    if is_silent and not session.has_condstore:
        return
    for start in range(0, len(uids), ROWS_LIMIT):
        some = uids[start : start + ROWS_LIMIT]
        if is_silent:
            columns = ("uid", "modseq")
            rows = await session.services.views.rows(session.account, view.mailbox_id, some, columns)
            lines = [b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (view.number_of(row[0]), *row) for row in rows]
        else:
            lines = await flag_lines(session, view, some)
        await out.send(b"".join(lines))


def _completion(view: MailboxView, command: Store, uids: list[int], stored: FlagsStored) -> Completion:
    if stored.modified:
        numbers = stored.modified if command.is_uid else map(view.number_of, stored.modified)
        return Completion("Some were changed meanwhile", f"MODIFIED {SequenceSet.of(numbers)}")
    if not command.is_uid and any(view.is_gone(uid) for uid in uids):
        return Completion("Some of the messages are gone", "EXPUNGEISSUED")
    return Completion("STORE completed")
