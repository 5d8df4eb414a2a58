"""IDLE (RFC 2177)."""

from __future__ import annotations

from app.errors import MalformedRequest
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.idle import Idle


async def idle(session: ServerSession, _command: Idle, out: ReplyWriter) -> None:
    """IDLE (RFC 2177): send changes until the client sends DONE."""
    await out.send(b"+ idling\r\n")
    session.read_line = _done
    session.is_idling = True


async def _done(_session: ServerSession, line: bytes, _out: ReplyWriter) -> Completion:
    if line.upper() != b"DONE":
        raise MalformedRequest("Expected DONE")
    return Completion("IDLE completed")


HANDLERS: Handlers = (Handler(Idle, idle, capabilities=("IDLE",)),)
