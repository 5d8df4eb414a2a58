"""Parsing of framed responses into their types (RFC 9051 §7)."""

from __future__ import annotations

import re
from collections.abc import Callable

from app.errors import ServerProtocolError
from app.mail.storable import storable
from app.wire.imap.codes import split_code
from app.wire.imap.fetch import is_fetch, parse_fetch
from app.wire.imap.framing import Response
from app.wire.imap.grammar import Value, list_of, number_of, parse, text_of
from app.wire.imap.names import known_as, shown_as
from app.wire.imap.responses import (
    Capabilities,
    Continuation,
    Enabled,
    ESearchResult,
    Exists,
    Expunged,
    ListedMailbox,
    MailboxFlags,
    MailboxStatus,
    Namespaces,
    Quota,
    Recent,
    SearchResult,
    ServerId,
    ServerResponse,
    Status,
    StatusKind,
    Unknown,
    Vanished,
)
from app.wire.imap.sets import SequenceSet

MAX_SEARCHED = 100_000
MAX_RANGES = 20_000
"""Numbers and ranges of one response, so that parsing takes at most about 15 ms: see `long_numbers.cut`."""

_UNTAGGED = re.compile(r"\* (?:([0-9]{1,10}) )?([^ ]+)(?: (.*))?", re.DOTALL | re.ASCII)
_TAGGED = re.compile(r"([^ +*]+) (OK|NO|BAD)(?: (.*))?", re.DOTALL | re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_SEARCH_MODSEQ = re.compile(r" ?\(MODSEQ ([0-9]{1,20})\) ?\Z", re.IGNORECASE | re.ASCII)


def parse_response(response: Response, *, is_utf8: bool = False) -> ServerResponse:
    """Parse a response. `is_utf8` means that UTF8=ACCEPT or IMAP4rev2 is enabled, so that names are UTF-8.

    Raises ServerProtocolError for invalid syntax.
    """
    if is_fetch(response):
        return parse_fetch(response)
    if not response.text.startswith(b"* "):
        return _parse_tagged(response.text.decode("utf-8", "surrogateescape"))
    text = response.text.decode("utf-8", "surrogateescape")
    match = _UNTAGGED.fullmatch(text)
    if match is None:
        raise ServerProtocolError("An untagged response has no name")
    number, name, rest = match[1], match[2].upper(), match[3] or ""
    if number is not None:
        return _numbered(name, int(number))
    if name in StatusKind.__members__:
        return Status(None, StatusKind(name), *split_code(rest))
    read_text = _TEXT_READERS.get(name)
    if read_text is not None:
        return read_text(rest)
    read = _VALUE_READERS.get(name)
    return read(parse(response.parts)[2:], is_utf8) if read is not None else Unknown(name)


def _parse_tagged(text: str) -> Status | Continuation:
    if text.startswith("+"):
        return Continuation(text[2:])
    match = _TAGGED.fullmatch(text)
    if match is None:
        raise ServerProtocolError("Invalid response line")
    return Status(match[1], StatusKind(match[2].upper()), *split_code(match[3] or ""))


def _numbered(name: str, number: int) -> ServerResponse:
    match name:
        case "EXISTS":
            return Exists(number)
        case "EXPUNGE":
            return Expunged(number)
        case "RECENT":
            return Recent(number)
        case _:
            return Unknown(name)


def _words(text: str) -> frozenset[str]:
    return frozenset(storable(text).upper().split())


def _search(text: str) -> SearchResult:
    if text.count(" ") >= MAX_SEARCHED:
        raise ServerProtocolError("A SEARCH response has too many numbers")
    modseq = _SEARCH_MODSEQ.search(text)
    words = (text[: modseq.start()] if modseq else text).split()
    try:
        numbers = tuple([int(word) for word in words])
    except ValueError:
        numbers = tuple([int(word) for word in words if _NUMBER.fullmatch(word)])
    return SearchResult(numbers, int(modseq[1]) if modseq else None)


def _vanished(text: str) -> Vanished:
    earlier, separator, uids = text.rpartition(" ")
    try:
        numbers = SequenceSet.parse(uids, max_ranges=MAX_RANGES)
    except ValueError as error:
        raise ServerProtocolError("A VANISHED response has no UIDs, or too many") from error
    return Vanished(numbers, bool(separator) and "EARLIER" in earlier.upper())


_TEXT_READERS: dict[str, Callable[[str], ServerResponse]] = {
    "CAPABILITY": lambda text: Capabilities(_words(text)),
    "ENABLED": lambda text: Enabled(_words(text)),
    "SEARCH": _search,
    "VANISHED": _vanished,
}


def _texts(value: Value) -> list[str]:
    return [item for item in list_of(value) if isinstance(item, str)]


def _name(value: Value, is_utf8: bool) -> str:
    """A mailbox name in the form of `known_as`. The atom NIL is a mailbox of that name; INBOX is case-insensitive
    (RFC 9051 §5.1)."""
    wire = text_of(value)
    if wire is None:
        return "NIL"
    return "INBOX" if wire.upper() == "INBOX" else known_as(wire, is_utf8=is_utf8)


def _listed(values: list[Value], is_utf8: bool, *, is_lsub: bool = False) -> ListedMailbox:
    if len(values) < 3:
        raise ServerProtocolError("A LIST response has too few fields")
    extended: dict[str, Value] = _by_name(list_of(values[3])) if len(values) > 3 else {}
    old = list_of(extended.get("OLDNAME"))
    return ListedMailbox(
        _name(values[2], is_utf8),
        text_of(values[1]) or None,
        frozenset(attribute.lower() for attribute in _texts(values[0])),
        is_lsub,
        frozenset(text.upper() for text in _texts(extended.get("CHILDINFO"))),
        _name(old[0], is_utf8) if old else None,
        _prefix(values[2], is_utf8),
    )


def _by_name(items: list[Value]) -> dict[str, Value]:
    """Turn a flat list of names and values into a mapping, with names in upper case."""
    return {(text_of(name) or "").upper(): value for name, value in zip(items[::2], items[1::2], strict=False)}


def _status(values: list[Value], is_utf8: bool) -> MailboxStatus:
    if len(values) < 2:
        raise ServerProtocolError("A STATUS response has too few fields")
    status = MailboxStatus(_name(values[0], is_utf8), {}, {})
    for name, value in _by_name(list_of(values[1])).items():
        if isinstance(value, str) and value.isascii() and value.isdigit():
            status.items[name] = number_of(value)
        elif isinstance(text := value[0] if isinstance(value, list) and value else value, str):
            status.texts[name] = text  # in parentheses (RFC 8474 §4.3), digits are text too
    return status


def _esearch(values: list[Value], _is_utf8: bool) -> ESearchResult:
    tag = None
    if values and isinstance(values[0], list):
        tag = text_of(_by_name(values[0]).get("TAG"))
        values = values[1:]
    is_uid = bool(values) and isinstance(values[0], str) and values[0].upper() == "UID"
    items = _by_name(values[1:] if is_uid else values)
    numbers = {name: number_of(items[name]) for name in ("MIN", "MAX", "COUNT", "MODSEQ") if name in items}
    try:
        matches = SequenceSet.parse(text_of(items["ALL"]) or "", max_ranges=MAX_RANGES) if "ALL" in items else None
    except ValueError as error:
        raise ServerProtocolError("An ESEARCH response has an invalid set of numbers, or too many") from error
    return ESearchResult(
        tag, is_uid, numbers.get("MIN"), numbers.get("MAX"), numbers.get("COUNT"), matches, numbers.get("MODSEQ")
    )


def _namespaces(values: list[Value], is_utf8: bool) -> Namespaces:
    def read(value: Value) -> tuple[tuple[str, str | None], ...]:
        entries = [list_of(entry) for entry in list_of(value)]
        return tuple([(_prefix(entry[0], is_utf8), text_of(entry[1])) for entry in entries if len(entry) > 1])

    if len(values) < 3:
        raise ServerProtocolError("A NAMESPACE response has too few fields")
    return Namespaces(read(values[0]), read(values[1]), read(values[2]))


def _prefix(value: Value, is_utf8: bool) -> str:
    wire = text_of(value) or ""
    return wire if is_utf8 else shown_as(wire)


def _id(values: list[Value], _is_utf8: bool) -> ServerId:
    pairs = _by_name(list_of(values[0]) if values else [])
    return ServerId({name.lower(): text_of(value) or "" for name, value in pairs.items()})


def _quota(values: list[Value], _is_utf8: bool) -> Quota:
    """Parse QUOTA. Courier omits the list if a root has no limit."""
    if not values:
        raise ServerProtocolError("A QUOTA response has too few fields")
    items = list_of(values[1]) if len(values) > 1 else []
    triples = zip(items[::3], items[1::3], items[2::3], strict=False)
    return Quota(
        storable(text_of(values[0]) or ""),
        {(text_of(name) or "").upper(): (number_of(used), number_of(limit)) for name, used, limit in triples},
    )


def _flags(values: list[Value], _is_utf8: bool) -> MailboxFlags:
    return MailboxFlags(tuple(_texts(values[0] if values else None)))


_VALUE_READERS: dict[str, Callable[[list[Value], bool], ServerResponse]] = {
    "LIST": _listed,
    "LSUB": lambda values, is_utf8: _listed(values, is_utf8, is_lsub=True),
    "STATUS": _status,
    "ESEARCH": _esearch,
    "NAMESPACE": _namespaces,
    "ID": _id,
    "QUOTA": _quota,
    "FLAGS": _flags,
}
