"""ENABLE (RFC 5161)."""

from __future__ import annotations

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.enable import Enable


async def enable(session: ServerSession, command: Enable, out: ReplyWriter) -> Completion:
    """ENABLE CONDSTORE or QRESYNC, which implies CONDSTORE (RFC 7162 §3.2.3); other capabilities need no ENABLE."""
    enabled = [name for name in ("CONDSTORE", "QRESYNC") if name in command.capabilities]
    if enabled:
        await session.enable_condstore(out)
    session.has_qresync = session.has_qresync or "QRESYNC" in enabled
    await out.send(" ".join(["* ENABLED", *enabled]).encode() + b"\r\n")
    return Completion("Enabled")


HANDLERS: Handlers = (Handler(Enable, enable, capabilities=("ENABLE",)),)
