"""CAPABILITY, LOGIN, AUTHENTICATE, ENABLE, ID, NAMESPACE, NOOP and IDLE."""

from __future__ import annotations

import binascii

from app.errors import MalformedRequest
from app.servers.conversation import Outlet
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.session import Session
from app.wire.imap.requests import Authenticate, Enable, Identify, Login, Simple
from app.wire.sasl import MECHANISMS, Claim, Exchange

CAPABILITIES = (
    "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN SPECIAL-USE "
    "CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE ESEARCH SEARCHRES WITHIN CONDSTORE NOTIFY MULTIAPPEND "
    "OBJECTID PREVIEW"
)
FAILED_LOGINS_LIMIT = 5
"""Failed logins that a connection may have; a client that is still guessing must connect again."""


def capabilities(session: Session) -> str:
    """What is offered now."""
    words = [CAPABILITIES, f"APPENDLIMIT={session.services.max_message_bytes}"]
    peer = session.peer
    if session.account_id is None:
        if peer.can_start_tls and not peer.is_encrypted:
            words.append("STARTTLS")
        words.append("AUTH=PLAIN AUTH=LOGIN" if peer.may_log_in else "LOGINDISABLED")
    return " ".join(words)


def capability_code(session: Session) -> str:
    return f"CAPABILITY {capabilities(session)}"


async def tell_capabilities(session: Session, _command: Simple, out: Outlet) -> Completion:
    await out.send(f"* CAPABILITY {capabilities(session)}\r\n".encode())
    return Completion("CAPABILITY completed")


async def noop(_session: Session, command: Simple, _out: Outlet) -> Completion:
    """NOOP and CHECK: what happened is told before any command is completed."""
    return Completion(f"{command.name} completed")


async def log_in(session: Session, command: Login, _out: Outlet) -> Completion:
    """LOGIN."""
    _require_protection(session)
    return await _verify(session, command.username, command.password)


def _require_protection(session: Session) -> None:
    if not session.peer.may_log_in:
        raise CommandRefused("PRIVACYREQUIRED", "Start TLS first")


async def _verify(session: Session, user: str, password: str) -> Completion:
    if session.failed_logins >= FAILED_LOGINS_LIMIT:
        raise CommandRefused("AUTHENTICATIONFAILED", "Too many failed logins on this connection")
    session.failed_logins += 1
    login = await session.services.logins.verify(user, password, address=session.peer.address)
    session.peer.claim(login)
    session.account_id = login.account_id
    return Completion("Logged in", capability_code(session))


async def authenticate(session: Session, command: Authenticate, out: Outlet) -> Completion | None:
    """AUTHENTICATE PLAIN or LOGIN, with or without an initial response (RFC 4959)."""
    _require_protection(session)
    if command.mechanism not in MECHANISMS:
        raise CommandRefused("CANNOT", "This mechanism is not offered")
    exchange = Exchange(command.mechanism)
    return await _go_on(session, exchange, exchange.start(command.initial_response), out)


async def _go_on(session: Session, exchange: Exchange, came: bytes | Claim, out: Outlet) -> Completion | None:
    """Check what the client claims to be, or send the next challenge and wait for the response."""
    if isinstance(came, Claim):
        return await _verify(session, came.user, came.password)

    async def respond(session: Session, line: bytes, out: Outlet) -> Completion | None:
        return await _go_on(session, exchange, exchange.respond(line), out)

    session.read_line = respond
    await out.send(b"+ %b\r\n" % binascii.b2a_base64(came, newline=False))
    return None


async def enable(session: Session, command: Enable, out: Outlet) -> Completion:
    """ENABLE: CONDSTORE is all that can be."""
    enabled = b""
    if "CONDSTORE" in command.capabilities:
        await session.enable_condstore(out)
        enabled = b" CONDSTORE"
    await out.send(b"* ENABLED%b\r\n" % enabled)
    return Completion("Enabled")


async def identify(_session: Session, _command: Identify, out: Outlet) -> Completion:
    await out.send(b'* ID ("name" "Postgate")\r\n')
    return Completion("ID completed")


async def tell_namespace(_session: Session, _command: Simple, out: Outlet) -> Completion:
    await out.send(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return Completion("NAMESPACE completed")


async def idle(session: Session, _command: Simple, out: Outlet) -> None:
    """IDLE (RFC 2177): tell what happens until the client says DONE."""
    await out.send(b"+ idling\r\n")
    session.read_line = _done
    session.is_idling = True


async def _done(_session: Session, line: bytes, _out: Outlet) -> Completion:
    if line.upper() != b"DONE":
        raise MalformedRequest("DONE was expected")
    return Completion("IDLE completed")
