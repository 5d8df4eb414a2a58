"""COPY and MOVE, by sequence number or UID (RFC 9051 §6.4.7, §6.4.8; RFC 6851)."""

from __future__ import annotations

import asyncio

from app.mail.confirmed import Applied
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.commands.expunge import modseq_code
from app.servers.imap.handlers import Handler, Handlers, SessionState
from app.servers.imap.numbers import written
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.copy import Copy

COPIED_LIMIT = 20_000
"""The largest number of messages of one COPY or MOVE, which is one transaction and one line of UIDs."""


async def copy(session: ServerSession, command: Copy, out: ReplyWriter) -> Completion:
    """COPY or MOVE messages. A MOVE sends the new UIDs before the EXPUNGEs (RFC 6851 §4.3)."""
    view, services = session.selected, session.services
    if command.is_move and view.is_read_only:
        raise CommandRefused("READ-ONLY", "The mailbox is read-only")
    target = await session.mailbox(command.mailbox, try_create=True)
    uids = await session.named(command.messages, is_uid=command.is_uid)
    if len(uids) > COPIED_LIMIT:
        raise CommandRefused("LIMIT", f"At most {COPIED_LIMIT} messages at a time")
    transfer = services.store.move if command.is_move else services.store.copy
    applied = await transfer(session.account, view.mailbox_id, uids, target.id)
    code = await asyncio.to_thread(_copied, applied, target.uid_validity)
    if not command.is_move:
        return Completion("COPY completed", code)
    if not code:
        return Completion("MOVE completed")
    await out.send(Completion("Moved", code).line("*"))
    return Completion("MOVE completed", await modseq_code(session, view))


def _copied(applied: Applied, uid_validity: int) -> str:
    """Return COPYUID: sources and copies in pairs; both ascend, because copies are numbered in order."""
    pairs = sorted((source.uid, copied.uid) for source, copied in applied.copies.items())
    if not pairs:
        return ""
    sources, copies = zip(*pairs, strict=True)
    return f"COPYUID {uid_validity} {written(sources)} {written(copies)}"


HANDLERS: Handlers = (Handler(Copy, copy, SessionState.SELECTED, capabilities=("MOVE",)),)
