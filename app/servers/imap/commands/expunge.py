"""EXPUNGE and UID EXPUNGE (RFC 9051 §6.4.3, §6.4.9; RFC 4315)."""

from __future__ import annotations

from collections.abc import Sequence

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.handlers import Handler, Handlers, SessionState
from app.servers.imap.session import ServerSession
from app.servers.imap.view import MailboxView
from app.wire.imap.requests.expunge import Expunge, UidExpunge


async def expunge(session: ServerSession, _command: Expunge, _out: ReplyWriter) -> Completion:
    """EXPUNGE; the responses are sent with the other changes of the mailbox."""
    return await _expunge(session, None)


async def uid_expunge(session: ServerSession, command: UidExpunge, _out: ReplyWriter) -> Completion:
    """UID EXPUNGE (RFC 4315 §2.1)."""
    return await _expunge(session, await session.named(command.uids, is_uid=True))


async def _expunge(session: ServerSession, uids: Sequence[int] | None) -> Completion:
    view = session.selected
    if view.is_read_only:
        raise CommandRefused("READ-ONLY", "The mailbox is read-only")
    applied = await session.services.store.expunge(session.account, view.mailbox_id, uids)
    return Completion("EXPUNGE completed", await modseq_code(session, view) if applied.delta else "")


async def modseq_code(session: ServerSession, view: MailboxView) -> str:
    """Return the response code of a command that expunges, if QRESYNC is enabled (RFC 7162 §3.2.7)."""
    if not session.has_qresync:
        return ""
    mailbox = await session.services.reader.mailboxes.mailbox(session.account, view.mailbox_id)
    return f"HIGHESTMODSEQ {mailbox.highest_modseq}"


HANDLERS: Handlers = (
    Handler(Expunge, expunge, SessionState.SELECTED),
    Handler(UidExpunge, uid_expunge, SessionState.SELECTED, capabilities=("UIDPLUS",)),
)
