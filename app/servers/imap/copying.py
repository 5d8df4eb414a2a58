"""COPY, MOVE and EXPUNGE, by sequence number or UID (RFC 9051 §6.4.3, §6.4.7; RFC 6851)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.mail.confirmed import Applied
from app.servers.conversation import Outlet
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.numbers import written
from app.servers.imap.session import Session
from app.wire.imap.requests import Copy, Simple, UidExpunge

COPIED_LIMIT = 20_000
"""Messages that one COPY or MOVE takes: they become one transaction, and one line of UIDs."""


async def copy(session: Session, command: Copy, out: Outlet) -> Completion:
    """COPY and MOVE. Of a MOVE the new UIDs are told before the EXPUNGEs (RFC 6851 §4.3)."""
    view, services = session.selected, session.services
    if command.is_move and view.is_read_only:
        raise CommandRefused("READ-ONLY", "The mailbox is only examined")
    target = await session.mailbox(command.mailbox, try_create=True)
    uids = await session.named(command.messages, is_uid=command.is_uid)
    if len(uids) > COPIED_LIMIT:
        raise CommandRefused("LIMIT", f"At most {COPIED_LIMIT} messages at a time")
    act = services.store.move if command.is_move else services.store.copy
    applied = await act(session.account, view.mailbox_id, uids, target.id)
    code = await asyncio.to_thread(_copied, applied, target.uid_validity)
    if not command.is_move:
        return Completion("COPY completed", code)
    if code:
        await out.send(Completion("Moved", code).line("*"))
    return Completion("MOVE completed")


def _copied(applied: Applied, uid_validity: int) -> str:
    """COPYUID: the sources and, pair by pair, the copies; both ascend, since copies are numbered in order."""
    pairs = sorted((source.uid, copied.uid) for source, copied in applied.copies.items())
    if not pairs:
        return ""
    sources, copies = zip(*pairs, strict=True)
    return f"COPYUID {uid_validity} {written(sources)} {written(copies)}"


async def expunge(session: Session, _command: Simple, _out: Outlet) -> Completion:
    """EXPUNGE; the answers are told as what happened."""
    return await _expunge(session, None)


async def uid_expunge(session: Session, command: UidExpunge, _out: Outlet) -> Completion:
    """UID EXPUNGE (RFC 4315 §2.1)."""
    return await _expunge(session, await session.named(command.uids, is_uid=True))


async def _expunge(session: Session, uids: Sequence[int] | None) -> Completion:
    view = session.selected
    if view.is_read_only:
        raise CommandRefused("READ-ONLY", "The mailbox is only examined")
    await session.services.store.expunge(session.account, view.mailbox_id, uids)
    return Completion("EXPUNGE completed")
