"""AUTH (RFC 4954): attempts until one succeeds or the limit is reached."""

from __future__ import annotations

import base64

from app.errors import MalformedRequest, NotAuthenticated, RateLimited
from app.mail.types import AccountId
from app.servers.conversation import Client, Close, Reply, Step
from app.services.access.logins import Logins
from app.wire.sasl import MECHANISMS, SaslClaim, SaslExchange
from app.wire.smtp import Refused, reply

FAILURES_LIMIT = 3

LoginOutcome = bytes | SaslClaim
"""A reply with the next challenge, or the client's claim to verify."""


class LoginDialogue:
    """The login of a session and the dialogue for it."""

    def __init__(self, peer: Client, logins: Logins) -> None:
        self._peer = peer
        self._logins = logins
        self._exchange: SaslExchange | None = None
        self._failures = 0
        self.account_id: AccountId | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next line is a response, not a command."""
        return self._exchange is not None

    def begin(self, argument: str) -> LoginOutcome:
        """Begin an attempt. `argument` is a mechanism and an optional initial response. Raises Refused."""
        mechanism, _, initial = argument.partition(" ")
        if self.account_id is not None:
            raise Refused(reply(503, "5.5.1", "Already authenticated"))
        if not self._peer.may_log_in:
            raise Refused(reply(538, "5.7.11", "Encryption required: use STARTTLS first"))
        if mechanism.upper() not in MECHANISMS:
            raise Refused(reply(504, "5.5.4", "Unsupported authentication mechanism"))
        self._exchange = SaslExchange(mechanism.upper())
        return self._advance(self._exchange, initial.strip().encode() or None, is_first=True)

    def respond(self, line: bytes) -> LoginOutcome:
        """Continue the attempt with a line without its line end. Raises Refused if the attempt fails."""
        assert self._exchange is not None
        return self._advance(self._exchange, line, is_first=False)

    def _advance(self, exchange: SaslExchange, response: bytes | None, *, is_first: bool) -> LoginOutcome:
        try:
            outcome = exchange.start(response) if is_first else exchange.respond(response or b"")
        except MalformedRequest as error:
            self._exchange = None
            raise Refused(reply(501, "5.5.2", error.detail)) from None
        if isinstance(outcome, SaslClaim):
            self._exchange = None
            return outcome
        return b"334 " + base64.b64encode(outcome) + b"\r\n"

    async def verify(self, claim: SaslClaim) -> Step:
        """Verify a claim and return the reply. Raises Refused if it is wrong."""
        try:
            login = await self._logins.verify(claim.user, claim.password, address=self._peer.address)
        except NotAuthenticated:
            return self._fail(reply(535, "5.7.8", "Invalid e-mail address or password"))
        except RateLimited:
            return self._fail(reply(454, "4.7.0", "Too many failed logins; try again later"))
        try:
            self._peer.claim(login)
        except RateLimited as error:
            return Close(reply(421, "4.7.0", error.detail))
        self.account_id = login.account_id
        return Reply(reply(235, "2.7.0", "Welcome"))

    def _fail(self, answer: bytes) -> Step:
        self._failures += 1
        if self._failures >= FAILURES_LIMIT:
            return Close(answer + reply(421, "4.7.0", "Too many failed logins"))
        raise Refused(answer)
