"""LOGIN and AUTHENTICATE (RFC 9051 §6.2.2, §6.2.3)."""

from __future__ import annotations

import binascii

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.capabilities import capability_code
from app.servers.imap.handlers import Handler, Handlers, SessionState
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.login import Authenticate, Login
from app.wire.sasl import MECHANISMS, SaslClaim, SaslExchange

FAILED_LOGINS_LIMIT = 5
"""Failed logins per connection; after these the client must reconnect."""


async def log_in(session: ServerSession, command: Login, _out: ReplyWriter) -> Completion:
    """LOGIN."""
    _require_protection(session)
    return await _verify(session, command.username, command.password)


def _require_protection(session: ServerSession) -> None:
    if not session.peer.may_log_in:
        raise CommandRefused("PRIVACYREQUIRED", "TLS required: use STARTTLS first")


async def _verify(session: ServerSession, user: str, password: str) -> Completion:
    if session.failed_logins >= FAILED_LOGINS_LIMIT:
        raise CommandRefused("AUTHENTICATIONFAILED", "Too many failed logins on this connection")
    session.failed_logins += 1
    login = await session.services.logins.verify(user, password, address=session.peer.address)
    session.peer.claim(login)
    session.account_id = login.account_id
    return Completion("Logged in", capability_code(session))


async def authenticate(session: ServerSession, command: Authenticate, out: ReplyWriter) -> Completion | None:
    """AUTHENTICATE PLAIN or LOGIN, with or without an initial response (RFC 4959)."""
    _require_protection(session)
    if command.mechanism not in MECHANISMS:
        raise CommandRefused("CANNOT", "Unsupported authentication mechanism")
    exchange = SaslExchange(command.mechanism)
    return await _advance(session, exchange, exchange.start(command.initial_response), out)


async def _advance(
    session: ServerSession, exchange: SaslExchange, outcome: bytes | SaslClaim, out: ReplyWriter
) -> Completion | None:
    """Verify the client's claim, or send the next challenge and wait for the response."""
    if isinstance(outcome, SaslClaim):
        return await _verify(session, outcome.user, outcome.password)

    async def respond(session: ServerSession, line: bytes, out: ReplyWriter) -> Completion | None:
        return await _advance(session, exchange, exchange.respond(line), out)

    session.read_line = respond
    await out.send(b"+ %b\r\n" % binascii.b2a_base64(outcome, newline=False))
    return None


def _mechanisms(session: ServerSession) -> str:
    """Return the capabilities for logging in at this point."""
    if session.account_id is not None:
        return ""
    return "AUTH=PLAIN AUTH=LOGIN" if session.peer.may_log_in else "LOGINDISABLED"


HANDLERS: Handlers = (
    Handler(Login, log_in, SessionState.GUEST, capabilities=(_mechanisms,)),
    Handler(Authenticate, authenticate, SessionState.GUEST, capabilities=("SASL-IR",)),
)
