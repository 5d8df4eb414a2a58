"""Server side of SASL: PLAIN (RFC 4616) and LOGIN, as used in POP3 and SMTP (RFC 5034, RFC 4954)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from app.errors import MalformedRequest

MECHANISMS = ("PLAIN", "LOGIN")
RESPONSE_LIMIT_BYTES = 8 * 1024
_CANCEL = b"*"


@dataclass(frozen=True, slots=True)
class SaslClaim:
    """The credentials that a client presents. `repr` never shows the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Claim({self.user!r})"


class SaslExchange:
    """One authentication attempt. `start` and `respond` return the next challenge (not encoded), or the final Claim.

    Both raise MalformedRequest for an invalid response and for a cancelled attempt. It ends the attempt, not the
    connection.
    """

    def __init__(self, mechanism: str) -> None:
        """`mechanism` is one of MECHANISMS."""
        self._is_plain = mechanism == "PLAIN"
        self._user: str | None = None

    def start(self, initial: bytes | None) -> bytes | SaslClaim:
        """Begin. `initial` is the initial response in base64: "=" is an empty response, None is no response."""
        if initial is None:
            return b"" if self._is_plain else b"Username:"
        return self._take(b"" if initial == b"=" else _decoded(initial))

    def respond(self, line: bytes) -> bytes | SaslClaim:
        """Continue with a response, `line`, in base64 without its line end."""
        if line == _CANCEL:
            raise MalformedRequest("Authentication cancelled")
        return self._take(_decoded(line))

    def _take(self, response: bytes) -> bytes | SaslClaim:
        if self._is_plain:
            return _plain(response)
        text = _text(response)
        if self._user is None:
            self._user = text
            return b"Password:"
        return SaslClaim(self._user, text)


def _plain(response: bytes) -> SaslClaim:
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise MalformedRequest("The response has no user name and password")
    authorize, user, password = (_text(part) for part in parts)
    if authorize not in ("", user):
        raise MalformedRequest("Acting as another user is not supported")
    return SaslClaim(user, password)


def _decoded(text: bytes) -> bytes:
    if len(text) > RESPONSE_LIMIT_BYTES:
        raise MalformedRequest("The response is too long")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise MalformedRequest("The response is not valid base64") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The response is not valid UTF-8") from None
