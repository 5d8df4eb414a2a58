"""SASL, server side: PLAIN (RFC 4616) and LOGIN, as POP3 and SMTP carry them (RFC 5034, RFC 4954)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from app.errors import MalformedRequest

MECHANISMS = ("PLAIN", "LOGIN")
RESPONSE_LIMIT_BYTES = 8 * 1024
_CANCEL = b"*"


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a client says it is. `repr` never shows the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Claim({self.user!r})"


class Exchange:
    """One attempt. `start` and `respond` answer the next challenge (not encoded), or the Claim at the end.

    Both raise MalformedRequest for a response that is not one, and for a cancelled attempt: it ends that attempt alone.
    """

    def __init__(self, mechanism: str) -> None:
        """`mechanism` is one of MECHANISMS."""
        self._is_plain = mechanism == "PLAIN"
        self._user: str | None = None

    def start(self, initial: bytes | None) -> bytes | Claim:
        """`initial` is the response that came with the command, in base64; "=" is an empty one, None none."""
        if initial is None:
            return b"" if self._is_plain else b"Username:"
        return self._take(b"" if initial == b"=" else _decoded(initial))

    def respond(self, line: bytes) -> bytes | Claim:
        """`line` is a response in base64 without its line end."""
        if line == _CANCEL:
            raise MalformedRequest("Authentication cancelled")
        return self._take(_decoded(line))

    def _take(self, response: bytes) -> bytes | Claim:
        if self._is_plain:
            return _plain(response)
        text = _text(response)
        if self._user is None:
            self._user = text
            return b"Password:"
        return Claim(self._user, text)


def _plain(response: bytes) -> Claim:
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise MalformedRequest("It holds no user name and password")
    authorize, user, password = (_text(part) for part in parts)
    if authorize not in ("", user):
        raise MalformedRequest("To act for another user is not supported")
    return Claim(user, password)


def _decoded(text: bytes) -> bytes:
    if len(text) > RESPONSE_LIMIT_BYTES:
        raise MalformedRequest("The response is too long")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise MalformedRequest("The response is no base64") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The response is no UTF-8") from None
