"""Parsing of address lists (RFC 5322 §3.4, and the obsolete forms of §4.4): one pass over tokens, without recursion.

Text that is not clearly one address does not count as an address: it becomes a display name with the mailbox
MISSING_MAILBOX and the host MISSING_DOMAIN, as in Dovecot. No address is ever taken from a display name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.mail.types import Address, EnvelopeAddress
from app.mime.words import charset_of, decode_words

MISSING_MAILBOX = "MISSING_MAILBOX"
MISSING_DOMAIN = "MISSING_DOMAIN"
_NO_HOSTS = frozenset({"", MISSING_DOMAIN, "SYNTAX_ERROR", ".SYNTAX-ERROR.", ".MISSING-HOST-NAME."})
"""Hosts that Dovecot and UW-IMAP report for an address without a host."""
_NO_MAILBOXES = frozenset({"", MISSING_MAILBOX, ".MISSING-MAILBOX-NAME.", "INVALID_ADDRESS"})
MAX_ADDRESSES = 10_000
"""Addresses that are read of one field."""
MAX_NAME_CHARS = 10_000
"""Characters of a name that are decoded."""
MAX_GUESSED_NAMES = 100
"""Names from which the charset of unlabelled names is guessed."""

_PLAIN = r'[^\x00-\x20"(),:;<>@\[\]\\\x7f]++'
_MAILBOX = re.compile(
    rf'\s*+(?:(?:"([^"\\]*+)"\s*+|([^"(),:;<>@\[\]\\]*+))<({_PLAIN})@({_PLAIN})>|({_PLAIN})@({_PLAIN}))\s*+(?:,|$)'
)
_TOKEN = re.compile(
    r"(?P<space>[\x00-\x20\x7f]++)"
    r"|(?P<word>=\?[^?\s]++\?[bBqQ]\?[^?\s]*+\?=)"
    rf"|(?P<atom>{_PLAIN})"
    r'|"(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*)\\?"?'
    r"|(?P<literal>\[[^\[\]\\]*+\])"
    r"|(?P<special>.)",
    re.DOTALL,
)
_COMMENT_MARK = re.compile(r"[()]|\\.?", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_DOT_ATOM = re.compile(r"[^\x00-\x20\"(),:;<>@\[\]\\.\x7f]++(?:\.[^\x00-\x20\"(),:;<>@\[\]\\.\x7f]++)*")

Token = tuple[str, str]
"""(kind, text): atom, quoted, literal, comment or special; text without quotes and escapes."""


def parse_addresses(text: str, limit: int = MAX_ADDRESSES) -> list[EnvelopeAddress]:
    """The undecoded addresses of one unfolded field, with group markers as in ENVELOPE. Linear; never raises."""
    addresses: list[EnvelopeAddress] = []
    position, end = 0, len(text)
    while position < end and len(addresses) < limit:
        match = _MAILBOX.match(text, position)
        if match is None:
            return (addresses + _parse_slowly(text, position, limit))[:limit]
        quoted, words, local, domain, bare_local, bare_domain = match.groups()
        name = quoted if quoted is not None else " ".join((words or "").split())
        addresses.append(EnvelopeAddress(name or None, None, local or bare_local, domain or bare_domain))
        position = match.end()
    return addresses


def addr_spec(address: EnvelopeAddress) -> str:
    """local@domain as one string, with the local part quoted if necessary; "" without an address."""
    if address.mailbox is None or address.mailbox in _NO_MAILBOXES:
        return ""
    local = address.mailbox
    if not _DOT_ATOM.fullmatch(local):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return local if address.host is None or address.host in _NO_HOSTS else f"{local}@{address.host}"


def readable(addresses: tuple[EnvelopeAddress, ...]) -> tuple[Address, ...]:
    """Addresses decoded for people, without group markers and empty addresses."""
    charset = charset_of(" ".join(address.name for address in addresses[:MAX_GUESSED_NAMES] if address.name))
    decoded = [_readable(address, charset) for address in addresses if address.host is not None]
    return tuple(address for address in decoded if address.name or address.address)


def _readable(address: EnvelopeAddress, charset: str) -> Address:
    name = decode_words(address.name[:MAX_NAME_CHARS], charset) if address.name else ""
    words = decode_words((address.mailbox or "")[:MAX_NAME_CHARS], charset) if address.host in _NO_HOSTS else ""
    if " " in words:  # a name only, not a local mailbox
        return Address(f"{words} ({name})" if name else words, "")
    return Address(name, decode_words(addr_spec(address)))


def group_names(addresses: tuple[EnvelopeAddress, ...]) -> tuple[str, ...]:
    """The names of the groups in a list of addresses, decoded for people."""
    return tuple(decode_words(address.mailbox) for address in addresses if address.host is None and address.mailbox)


@dataclass(slots=True)
class _Item:
    """The tokens of one list element, sorted by their position in it."""

    before: list[Token] = field(default_factory=list)
    angle: list[Token] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    angles: int = 0
    is_open: bool = False

    def add(self, token: Token) -> None:
        if token == ("special", "<"):
            self.angles += 1
            self.is_open = True
        elif token == ("special", ">"):
            self.is_open = False
        elif token[0] == "comment":
            self.comments.append(token[1])
        elif self.is_open:
            self.angle.append(token)
        elif not self.angles:
            self.before.append(token)
        elif token == ("special", "@"):
            self.angles += 1  # an address after the brackets: ambiguous

    @property
    def is_route(self) -> bool:
        return self.is_open and bool(self.angle) and self.angle[0] == ("special", "@")

    @property
    def is_group_name(self) -> bool:
        return not self.angles and ("special", "@") not in self.before


def _parse_slowly(text: str, position: int, limit: int) -> list[EnvelopeAddress]:
    addresses: list[EnvelopeAddress] = []
    item, is_group = _Item(), False
    for token in _tokens(text, position):
        if len(addresses) >= limit:
            return addresses
        mark = token[1] if token[0] == "special" and not item.is_route else ""
        if mark == ":" and item.is_group_name:
            addresses.extend(_group_marks(is_group, item))
            item, is_group = _Item(), True
        elif mark in (",", ";"):
            addresses.extend(_finished(item))
            item = _Item()
            if mark == ";" and is_group:
                addresses.append(EnvelopeAddress(None, None, None, None))
                is_group = False
        else:
            item.add(token)
    addresses.extend(_finished(item))
    if is_group:
        addresses.append(EnvelopeAddress(None, None, None, None))
    return addresses


def _tokens(text: str, position: int) -> Iterator[Token]:
    end = len(text)
    while position < end:
        match = _TOKEN.match(text, position)
        assert match is not None, "every character is a token"
        kind, position = match.lastgroup or "quoted", match.end()
        value = match[kind]
        if value == "(" and kind == "special":
            value, position = _comment(text, position)
            yield "comment", value
        elif kind != "space":
            yield "atom" if kind == "word" else kind, _ESCAPE.sub(r"\1", value) if kind == "quoted" else value


def _comment(text: str, start: int) -> tuple[str, int]:
    """The text of a comment, and where it ends. Comments nest; an unclosed comment extends to the end."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if not depth:
            return _ESCAPE.sub(r"\1", text[start : mark.start()]).strip(), mark.end()
    return text[start:].strip(), len(text)


def _group_marks(is_inside: bool, item: _Item) -> list[EnvelopeAddress]:
    """The marker of a group's start. A group inside a group ends the outer one: groups do not nest (RFC 5322)."""
    start = EnvelopeAddress(None, None, _words(item.before), None)
    return [EnvelopeAddress(None, None, None, None), start] if is_inside else [start]


def _finished(item: _Item) -> list[EnvelopeAddress]:
    name = _words(item.before) if item.angles else (item.comments[-1] if item.comments else "")
    route, tokens = _split_route(item.angle) if item.angles else (None, item.before)
    if not tokens:
        return [EnvelopeAddress(name, None, MISSING_MAILBOX, MISSING_DOMAIN)] if name and item.angles else []
    parts = _split_address(tokens) if item.angles <= 1 else None
    if parts is None:
        text = " ".join(word for word in (name, _words(tokens)) if word)
        return [EnvelopeAddress(text, None, MISSING_MAILBOX, MISSING_DOMAIN)]
    return [EnvelopeAddress(name or (item.comments[-1:] and item.comments[-1]) or None, route, *parts)]


def _split_route(tokens: list[Token]) -> tuple[str | None, list[Token]]:
    """The obsolete source route (`@a,@b:`), and the tokens after it."""
    if not tokens or tokens[0] != ("special", "@") or ("special", ":") not in tokens:
        return None, tokens
    colon = tokens.index(("special", ":"))
    return "".join(text for _, text in tokens[:colon]), tokens[colon + 1 :]


def _split_address(tokens: list[Token]) -> tuple[str, str] | None:
    """The local part and the domain; None unless there is exactly one of each."""
    ats = [index for index, token in enumerate(tokens) if token == ("special", "@")]
    if not ats:
        return _words(tokens), MISSING_DOMAIN
    local, domain = _dotted(tokens[: ats[0]], "quoted"), _dotted(tokens[ats[0] + 1 :], "literal")
    return (local, domain) if len(ats) == 1 and local and domain else None


def _dotted(tokens: list[Token], extra_kind: str) -> str | None:
    """Join words at dots, with optional spaces around them (obs-local-part, obs-domain); None for anything else."""
    pieces: list[str] = []
    for kind, value in tokens:
        if kind not in ("atom", extra_kind):
            return None
        if pieces and not (value.startswith(".") or pieces[-1].endswith(".")):
            return None
        pieces.append(value)
    return "".join(pieces)


def _words(tokens: list[Token]) -> str:
    """Join tokens into a text, with spaces between words only."""
    pieces: list[str] = []
    was_word = False
    for kind, value in tokens:
        is_word = kind != "special"
        pieces.append(f" {value}" if is_word and was_word else value)
        was_word = is_word
    return "".join(pieces)
