"""STORE and UID STORE."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from app.errors import MalformedRequest
from app.mail.types import SYSTEM_FLAGS, Flags
from app.mailstore.store import FlagChange
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.handlers import Handler, Handlers, SessionState, with_uids
from app.servers.imap.news import catch_up, send_flags
from app.servers.imap.numbers import set_text
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.store import Store

KEYWORD_LIMIT_CHARS = 255
STORED_LIMIT = 500
"""Messages changed in one transaction, so that other accounts do not wait long."""

_SYSTEM = {flag.lower(): flag for flag in SYSTEM_FLAGS}


def read_flags(flags: tuple[str, ...]) -> Flags:
    """Return flags as the store spells them, without `\\Recent`. Raises MalformedRequest for invalid flags."""
    result = set()
    for flag in flags:
        if len(flag) > KEYWORD_LIMIT_CHARS:
            raise MalformedRequest("A keyword is too long")
        system_flag = _SYSTEM.get(flag.lower())
        if system_flag is None and flag.startswith("\\") and flag.lower() != "\\recent":
            raise MalformedRequest("Unknown system flag")
        if system_flag or not flag.startswith("\\"):
            result.add(system_flag or flag)
    return frozenset(result)


async def store(session: ServerSession, command: Store, out: ReplyWriter) -> Completion:
    """STORE; with UNCHANGEDSINCE, messages changed since are not changed but reported (RFC 7162 §3.1.3)."""
    view = session.selected
    if view.is_read_only:
        raise CommandRefused("READ-ONLY", "The mailbox is read-only")
    if command.unchanged_since is not None:
        await session.enable_condstore(out)
    change = _change_of(command.mode, read_flags(command.flags))
    uids = await session.named(command.messages, is_uid=command.is_uid)
    modified = array("I")
    for start in range(0, len(uids), STORED_LIMIT):
        modified.extend(await _store_some(session, command, uids[start : start + STORED_LIMIT], change, out))
    if modified:
        numbers = await set_text(session, modified, is_uid=command.is_uid)
        return Completion("Some messages have changed", f"MODIFIED {numbers}")
    if not command.is_uid and view.has_gone(uids):
        return Completion("Some messages were expunged", "EXPUNGEISSUED")
    return Completion("STORE completed")


def _change_of(mode: str, flags: Flags) -> FlagChange:
    """Return the change of FLAGS, +FLAGS or -FLAGS; `mode` is the sign."""
    if mode == "-":
        return FlagChange(remove=flags)
    return FlagChange(add=flags, is_replacing=not mode)


async def _store_some(
    session: ServerSession, command: Store, uids: Sequence[int], change: FlagChange, out: ReplyWriter
) -> tuple[int, ...]:
    """Change some messages in one transaction and send the responses. Return the UIDs not changed."""
    view, services = session.selected, session.services
    stored = await services.store.store_flags(session.account, view.mailbox_id, uids, change, command.unchanged_since)
    await catch_up(session)
    applied, unchanged = stored.applied, set(stored.modified)
    changed = [uid for uid in uids if uid not in unchanged]
    if not command.is_silent:
        view.mark_flags_sent(changed, applied.seq)
        await send_flags(session, changed, out)
        return stored.modified
    view.mark_flags_sent(changed, applied.seq, applied.seq_before)
    if session.has_condstore:
        rows = await services.views.rows(session.account, view.mailbox_id, changed, ("uid", "modseq"))
        lines = [
            b"* %d FETCH (UID %d MODSEQ (%d))\r\n" % (view.number_of(row.uid), row.uid, row.modseq) for row in rows
        ]
        await out.send(b"".join(lines))
    return stored.modified


HANDLERS: Handlers = (Handler(Store, store, SessionState.SELECTED, may_expunge=with_uids),)
