"""LOGIN and AUTHENTICATE (RFC 9051 §6.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, Readers

_BASE64 = re.compile(rb"=(?= |\Z)|[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True, slots=True)
class Login(Command):
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r})"


@dataclass(frozen=True, slots=True)
class Authenticate(Command):
    """AUTHENTICATE, with the initial response of SASL-IR (RFC 4959) in base64, b"" for `=`."""

    mechanism: str
    initial_response: bytes | None = None

    def __repr__(self) -> str:
        return f"Authenticate({self.mechanism!r})"


def _login(reader: ArgumentReader) -> Login:
    username = reader.text()
    reader.space()
    return Login(username, reader.text())


def _authenticate(reader: ArgumentReader) -> Authenticate:
    mechanism = reader.word()
    if not reader.skip(b" "):
        return Authenticate(mechanism)
    initial = reader.match(_BASE64, "Base64")[0]
    return Authenticate(mechanism, b"" if initial == b"=" else initial)


READERS: Readers = {"LOGIN": _login, "AUTHENTICATE": _authenticate}
