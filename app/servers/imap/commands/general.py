"""CAPABILITY, NOOP, CHECK, NAMESPACE and ID. The conversation itself does LOGOUT and STARTTLS."""

from __future__ import annotations

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.capabilities import capabilities
from app.servers.imap.handlers import Handler, Handlers, SessionState
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.general import Check, GetCapabilities, GetNamespace, Identify, Noop


async def send_capabilities(session: ServerSession, _command: GetCapabilities, out: ReplyWriter) -> Completion:
    await out.send(f"* CAPABILITY {capabilities(session)}\r\n".encode())
    return Completion("CAPABILITY completed")


async def noop(_session: ServerSession, _command: Noop, _out: ReplyWriter) -> Completion:
    """NOOP: pending changes are sent before the completion of any command."""
    return Completion("NOOP completed")


async def check(_session: ServerSession, _command: Check, _out: ReplyWriter) -> Completion:
    """CHECK: the same as NOOP, because every change is on disk when it is confirmed."""
    return Completion("CHECK completed")


async def identify(_session: ServerSession, _command: Identify, out: ReplyWriter) -> Completion:
    await out.send(b'* ID ("name" "Postgate")\r\n')
    return Completion("ID completed")


async def send_namespace(_session: ServerSession, _command: GetNamespace, out: ReplyWriter) -> Completion:
    await out.send(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return Completion("NAMESPACE completed")


def _start_tls(session: ServerSession) -> str:
    peer = session.peer
    return "STARTTLS" if session.account_id is None and peer.can_start_tls and not peer.is_encrypted else ""


HANDLERS: Handlers = (
    Handler(GetCapabilities, send_capabilities, SessionState.ANY, capabilities=("LITERAL+", _start_tls)),
    Handler(Noop, noop, SessionState.ANY),
    Handler(Check, check, SessionState.SELECTED),
    Handler(GetNamespace, send_namespace, capabilities=("NAMESPACE",)),
    Handler(Identify, identify, SessionState.ANY, capabilities=("ID",)),
)
