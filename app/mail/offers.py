"""A server that may read or send the mail of an address, and the checks that make an offer acceptable."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from app.mail.types import TransportSecurity

MAX_OFFERS = 12
"""The most servers of one protocol that are taken from one source."""
MAX_HOST_CHARS = 253
MAX_USERNAME_CHARS = 320

EMAIL, LOCAL_PART, DOMAIN = "%EMAILADDRESS%", "%EMAILLOCALPART%", "%EMAILDOMAIN%"
"""Placeholders of Mozilla's format. Other names in percent signs ask the user for a value and are not supported."""

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*", re.ASCII)
_PLACEHOLDER = re.compile("%[A-Z_]+%", re.ASCII)


class Protocol(StrEnum):
    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"


class Auth(StrEnum):
    """A login method of a server: a password (with any mechanism), or an OAuth access token."""

    PASSWORD = "password"  # noqa: S105 -- the name of a kind of login
    OAUTH2 = "oauth2"


@dataclass(frozen=True, slots=True)
class Offer:
    """A server. `host` and `username` may have placeholders until `filled`; `username` is None if not specified."""

    protocol: Protocol
    host: str
    port: int
    security: TransportSecurity
    username: str | None = EMAIL
    auth: tuple[Auth, ...] = (Auth.PASSWORD,)

    def filled(self, email: str) -> Offer | None:
        """Fill in one address. None if a placeholder remains, or the result is not a valid host or user name."""
        host = _filled(self.host, email).lower()
        username = None if self.username is None else _filled(self.username, email)
        if not _HOST.fullmatch(host) or (username is not None and not _is_username(username)):
            return None
        return replace(self, host=host, username=username)


def offer(
    protocol: str,
    host: str | None,
    port: str | None,
    security: TransportSecurity | None,
    username: str | None = EMAIL,
    auth: tuple[Auth, ...] = (Auth.PASSWORD,),
) -> Offer | None:
    """Return an offer of these texts; None if one of them is missing or invalid."""
    host = (host or "").strip().rstrip(".")
    port = (port or "").strip()
    if security is None or protocol not in tuple(Protocol) or not 1 <= len(host) <= MAX_HOST_CHARS:
        return None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        return None
    return Offer(Protocol(protocol), host, int(port), security, username, auth)


def filled(offers: Iterable[Offer], email: str) -> tuple[Offer, ...]:
    """Return the offers that fit this address, encrypted first, without duplicates, at most MAX_OFFERS per protocol."""
    candidates = list(dict.fromkeys(item for item in (offer.filled(email) for offer in offers) if item is not None))
    candidates.sort(key=lambda candidate: candidate.security is TransportSecurity.NONE)
    chosen: list[Offer] = []
    for protocol in Protocol:
        chosen += [item for item in candidates if item.protocol is protocol][:MAX_OFFERS]
    return tuple(chosen)


def _filled(text: str, email: str) -> str:
    local_part, _, domain = email.rpartition("@")
    values = {EMAIL: email, LOCAL_PART: local_part, DOMAIN: domain}
    return _PLACEHOLDER.sub(lambda match: values.get(match[0], match[0]), text)


def _is_username(text: str) -> bool:
    return 0 < len(text) <= MAX_USERNAME_CHARS and text.isprintable() and not _PLACEHOLDER.search(text)
