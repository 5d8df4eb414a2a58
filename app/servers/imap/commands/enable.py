"""ENABLE (RFC 5161)."""

from __future__ import annotations

from app.servers.conversation import Outlet
from app.servers.imap.answers import Completion
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.session import Session
from app.wire.imap.requests.enable import Enable


async def enable(session: Session, command: Enable, out: Outlet) -> Completion:
    """ENABLE: CONDSTORE is all that can be."""
    enabled = b""
    if "CONDSTORE" in command.capabilities:
        await session.enable_condstore(out)
        enabled = b" CONDSTORE"
    await out.send(b"* ENABLED%b\r\n" % enabled)
    return Completion("Enabled")


HANDLERS: Handlers = (Handler(Enable, enable, capabilities=("ENABLE",)),)
