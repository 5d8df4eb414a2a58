"""Address lists (RFC 5322 §3.4 with the obsolete forms of §4.4): a scanner and one pass over its tokens, no recursion.

Ambiguous text is not an address: it becomes a name, and mailbox and host are
MISSING_MAILBOX and MISSING_DOMAIN, the words that Dovecot uses. So nothing is ever taken out of a display name.
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
"""What Dovecot and UW-IMAP tell as the host of an address that has none."""
_NO_MAILBOXES = frozenset({"", MISSING_MAILBOX, ".MISSING-MAILBOX-NAME.", "INVALID_ADDRESS"})
MAX_ADDRESSES = 10_000
MAX_NAME_CHARS = 10_000
"""Read of one field; the rest is left out."""
MAX_GUESSED_NAMES = 100
"""How many names are looked at to guess the charset of those that have no label."""

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
    """The addresses of one unfolded field, undecoded, groups marked as in ENVELOPE. Linear, never raises."""
    found: list[EnvelopeAddress] = []
    position, end = 0, len(text)
    while position < end and len(found) < limit:
        match = _MAILBOX.match(text, position)
        if match is None:
            return (found + _parse_slowly(text, position, limit))[:limit]
        quoted, words, local, domain, bare_local, bare_domain = match.groups()
        name = quoted if quoted is not None else " ".join((words or "").split())
        found.append(EnvelopeAddress(name or None, None, local or bare_local, domain or bare_domain))
        position = match.end()
    return found


def addr_spec(address: EnvelopeAddress) -> str:
    """local@domain as one string, the local part quoted where it must be; "" without an address."""
    if address.mailbox is None or address.mailbox in _NO_MAILBOXES:
        return ""
    local = address.mailbox
    if not _DOT_ATOM.fullmatch(local):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return local if address.host is None or address.host in _NO_HOSTS else f"{local}@{address.host}"


def readable(addresses: tuple[EnvelopeAddress, ...]) -> tuple[Address, ...]:
    """The same addresses for people: names decoded, marks of groups and what says nothing left out."""
    charset = charset_of(" ".join(address.name for address in addresses[:MAX_GUESSED_NAMES] if address.name))
    shown = [_readable(address, charset) for address in addresses if address.host is not None]
    return tuple(address for address in shown if address.name or address.address)


def _readable(address: EnvelopeAddress, charset: str) -> Address:
    name = decode_words(address.name[:MAX_NAME_CHARS], charset) if address.name else ""
    words = decode_words((address.mailbox or "")[:MAX_NAME_CHARS], charset) if address.host in _NO_HOSTS else ""
    if " " in words:  # a name alone, no local mailbox
        return Address(f"{words} ({name})" if name else words, "")
    return Address(name, decode_words(addr_spec(address)))


def group_names(addresses: tuple[EnvelopeAddress, ...]) -> tuple[str, ...]:
    """The names of the groups among addresses, decoded for people."""
    return tuple(decode_words(address.mailbox) for address in addresses if address.host is None and address.mailbox)


@dataclass(slots=True)
class _Item:
    """The tokens of one list element, sorted as they come."""

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
            self.angles += 1  # an address after the brackets: which is meant, no one can tell

    @property
    def is_route(self) -> bool:
        return self.is_open and bool(self.angle) and self.angle[0] == ("special", "@")

    @property
    def is_group_name(self) -> bool:
        return not self.angles and ("special", "@") not in self.before


def _parse_slowly(text: str, position: int, limit: int) -> list[EnvelopeAddress]:
    found: list[EnvelopeAddress] = []
    item, is_group = _Item(), False
    for token in _tokens(text, position):
        if len(found) >= limit:
            return found
        mark = token[1] if token[0] == "special" and not item.is_route else ""
        if mark == ":" and item.is_group_name:
            found.extend(_group_marks(is_group, item))
            item, is_group = _Item(), True
        elif mark in (",", ";"):
            found.extend(_finished(item))
            item = _Item()
            if mark == ";" and is_group:
                found.append(EnvelopeAddress(None, None, None, None))
                is_group = False
        else:
            item.add(token)
    found.extend(_finished(item))
    if is_group:
        found.append(EnvelopeAddress(None, None, None, None))
    return found


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
    """The text of a comment and where it ends; comments nest, an unclosed one takes the rest."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if not depth:
            return _ESCAPE.sub(r"\1", text[start : mark.start()]).strip(), mark.end()
    return text[start:].strip(), len(text)


def _group_marks(is_inside: bool, item: _Item) -> list[EnvelopeAddress]:
    """The mark of a group's start; a group inside a group ends the outer one, since groups don't nest (RFC 5322)."""
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
    """The obsolete source route (`@a,@b:`) and what follows it."""
    if not tokens or tokens[0] != ("special", "@") or ("special", ":") not in tokens:
        return None, tokens
    colon = tokens.index(("special", ":"))
    return "".join(text for _, text in tokens[:colon]), tokens[colon + 1 :]


def _split_address(tokens: list[Token]) -> tuple[str, str] | None:
    """Local part and domain, None where it isn't exactly one of each."""
    ats = [index for index, token in enumerate(tokens) if token == ("special", "@")]
    if not ats:
        return _words(tokens), MISSING_DOMAIN
    local, domain = _dotted(tokens[: ats[0]], "quoted"), _dotted(tokens[ats[0] + 1 :], "literal")
    return (local, domain) if len(ats) == 1 and local and domain else None


def _dotted(tokens: list[Token], extra_kind: str) -> str | None:
    """Words joined by dots, spaces around the dots allowed (obs-local-part, obs-domain); None for anything else."""
    pieces: list[str] = []
    for kind, value in tokens:
        if kind not in ("atom", extra_kind):
            return None
        if pieces and not (value.startswith(".") or pieces[-1].endswith(".")):
            return None
        pieces.append(value)
    return "".join(pieces)


def _words(tokens: list[Token]) -> str:
    """Tokens as one text, a space between two words alone."""
    pieces: list[str] = []
    was_word = False
    for kind, value in tokens:
        is_word = kind != "special"
        pieces.append(f" {value}" if is_word and was_word else value)
        was_word = is_word
    return "".join(pieces)
