"""Signed links: URLs that open one resource of a message without a header, for `<img>` and `<a download>`.

A link is `binding~account~message~target~end.signature` with characters of `A–Z a–z 0–9 _ - . ~`. It is signed and
not stored. Each use checks whether its sign-in session or token is still valid and may see the message.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from secrets import token_hex

from app.db import tokens
from app.db.session import Database
from app.errors import LinkExpired, LinkNotFound, NotPermitted
from app.mail.identifiers import now_ms
from app.mail.types import AccountId
from app.security.vault import Vault
from app.services.access.callers import Caller, Scope
from app.services.access.tokens import caller_of, has_ended

PATH = "/v1/links/"
DEFAULT_SECONDS = 300
MAX_SECONDS = 24 * 3600
LIMIT_CHARS = 6_000
RAW = "raw"
"""The target for the whole message."""
_HOUR = 3600
_SIGNATURE_BYTES = 16
_MARK = f"/{token_hex(16)}-"
_MARKED = re.compile(re.escape(_MARK).encode() + rb"([A-Za-z0-9_.-]+)")
_FORM = re.compile(r"([ft])(\w+)~(\w+)~(\w+)~([rpi][A-Za-z0-9_.-]*)~([0-9a-f]{8,10})", re.ASCII)
_base_url: ContextVar[str] = ContextVar("base_url", default="")


@dataclass(frozen=True, slots=True)
class Target:
    """The resource of a link: the raw message, the part of a section, or a remote image by its URL."""

    section: str | None = None
    image_url: str | None = None

    def spelled(self) -> str:
        if self.image_url is not None:
            return "i" + _encode(self.image_url.encode("utf-8", "replace"))
        return "r" if self.section is None else "p" + self.section


@dataclass(frozen=True, slots=True)
class Link:
    """An opened link, with the caller whose rights apply."""

    caller: Caller
    account_id: AccountId
    message_id: str
    target: Target
    seconds_left: int


class Links:
    """Signs and opens links."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._keys = vault.signing_keys("links")

    def url(self, caller: Caller, account_id: AccountId, message_id: str, target: Target, end_ms: int) -> str:
        """Return a link to a resource that the caller may read, valid until `end_ms`."""
        place = f"{_binding(caller)}~{account_id}~{message_id}~{target.spelled()}~{end_ms // 1000:08x}"
        return f"{_base_url.get()}{PATH}{place}.{_signature(self._keys[0], place)}"

    async def open(self, text: str, address: str | None) -> Link:
        """Open a link used from an IP address, with the current rights of its token.

        Raises LinkNotFound for an invalid signature; LinkExpired, also if its sign-in session or token has ended;
        NotPermitted.
        """
        place, _, signature = text[:LIMIT_CHARS].rpartition(".")
        match = _FORM.fullmatch(place)
        if not self._is_signed(place, signature) or match is None:
            raise LinkNotFound
        seconds_left = int(match[6], 16) - now_ms() // 1000
        if seconds_left <= 0:
            raise LinkExpired
        caller = await self._caller(match[1], match[2])
        if not caller.may_come_from(address):
            raise NotPermitted("The link may not be used from this network")
        caller.require(Scope.MAIL_READ)
        return Link(caller, caller.account(match[3]), match[4], _target(match[5]), seconds_left)

    def filled(self, content: bytes, account_id: AccountId, message_id: str, caller: Caller) -> bytes:
        """Return HTML or JSON with the caller's links in place of the marks of `marked`.

        They expire on the hour, 23 to 24 hours from now, so that they stay the same for an hour.
        """
        if _MARK.encode() not in content:
            return content
        end_ms = -(-(now_ms() // 1000 + MAX_SECONDS - _HOUR) // _HOUR) * _HOUR * 1000

        def link(match: re.Match[bytes]) -> bytes:
            return self.url(caller, account_id, message_id, _target(match[1].decode()), end_ms).encode()

        return _MARKED.sub(link, content)

    def _is_signed(self, place: str, signature: str) -> bool:
        given = signature.encode("utf-8", "replace")
        return any(hmac.compare_digest(given, _signature(key, place).encode()) for key in self._keys)

    async def _caller(self, kind: str, id_: str) -> Caller:
        find = tokens.find_sign_in if kind == "f" else tokens.find
        stored = await find(self._database, id_)
        if stored is None or has_ended(caller := caller_of(stored)):
            raise LinkExpired("The sign-in or token that the link belongs to has ended")
        return caller


def marked(target: Target) -> str:
    """Return a placeholder for a link, for cached HTML. It is random, so a message cannot contain one."""
    return _MARK + target.spelled()


def image_mark() -> str:
    """Return the prefix that turns the base64url URL of a remote image into a placeholder for its link."""
    return _MARK + "i"


@contextmanager
def links_begin_with(base_url: str) -> Iterator[None]:
    """Let the links created in this block begin with this URL, without a trailing slash."""
    token = _base_url.set(base_url)
    try:
        yield
    finally:
        _base_url.reset(token)


def base_url() -> str:
    """The URL that links begin with; empty if the request named no valid host."""
    return _base_url.get()


def _binding(caller: Caller) -> str:
    """What a link expires with: the sign-in session, whose tokens change every few minutes, or else the token."""
    return f"f{caller.family}" if caller.is_sign_in else f"t{caller.token_id}"


def _target(text: str) -> Target:
    kind, rest = text[:1], text[1:]
    if kind == "i":
        return Target(image_url=base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4)).decode("utf-8", "replace"))
    return Target(section=rest) if kind == "p" else Target()


def _signature(key: bytes, place: str) -> str:
    return _encode(hmac.digest(key, place.encode("utf-8", "replace"), "sha256")[:_SIGNATURE_BYTES])


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
