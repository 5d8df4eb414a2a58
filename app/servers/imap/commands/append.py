"""APPEND of one or several messages (RFC 9051 §6.3.12, RFC 3502): OK only when they are on disk."""

from __future__ import annotations

from app.mailstore.content import StoredContent
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.commands.store import read_flags
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.numbers import written
from app.servers.imap.session import ServerSession
from app.wire.imap.framing import StreamedLiteral
from app.wire.imap.requests.append import Append, AppendedMessage


async def append(session: ServerSession, command: Append, _out: ReplyWriter) -> Completion:
    """APPEND all messages of the command or none."""
    mailbox = await session.mailbox(command.mailbox, try_create=True)
    flags = [read_flags(message.flags) for message in command.messages]
    contents = [await _keep(session, message) for message in command.messages]
    dates = [message.received_at_ms for message in command.messages]
    applied = await session.services.store.add(
        session.account, mailbox.id, list(zip(contents, flags, dates, strict=True))
    )
    uids = sorted(location.uid for location in applied.message_ids if location.mailbox_id == mailbox.id)
    return Completion("APPEND completed", f"APPENDUID {mailbox.uid_validity} {written(uids)}")


async def _keep(session: ServerSession, message: AppendedMessage) -> StoredContent:
    """Store a message's bytes on disk, from its spool or from memory."""
    content = message.message
    if isinstance(content, StreamedLiteral):
        return await session.services.store.keep_written(session.spools.pop(content.number))
    if not content:
        raise CommandRefused("CANNOT", "The message is empty")
    return await session.services.store.keep(content)


def _size_limit(session: ServerSession) -> str:
    return f"APPENDLIMIT={session.services.max_message_bytes}"


HANDLERS: Handlers = (Handler(Append, append, capabilities=("MULTIAPPEND", _size_limit)),)
