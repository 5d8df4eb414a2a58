"""Types of search criteria (RFC 9051 §6.4.4), and their encoding for the client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from app.errors import InvalidRequest
from app.wire.imap.dates import render_date
from app.wire.imap.encode import Argument, atom, flag, number, string
from app.wire.imap.sets import SequenceSet

MAX_DEPTH = 32


class TextField(StrEnum):
    """Where to search for a text: in an address field, the subject, BODY (the body), or TEXT (header and body)."""

    FROM = "FROM"
    TO = "TO"
    CC = "CC"
    BCC = "BCC"
    SUBJECT = "SUBJECT"
    BODY = "BODY"
    TEXT = "TEXT"


class DateField(StrEnum):
    """A comparison with INTERNALDATE, the Date header (SENT…) or SAVEDATE (SAVED…, RFC 8514)."""

    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"
    SENT_BEFORE = "SENTBEFORE"
    SENT_ON = "SENTON"
    SENT_SINCE = "SENTSINCE"
    SAVED_BEFORE = "SAVEDBEFORE"
    SAVED_ON = "SAVEDON"
    SAVED_SINCE = "SAVEDSINCE"


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Or:
    left: SearchKey
    right: SearchKey


@dataclass(frozen=True, slots=True)
class Not:
    key: SearchKey


@dataclass(frozen=True, slots=True)
class Numbers:
    """Messages by sequence number, or by UID."""

    numbers: SequenceSet
    is_uid: bool = False


@dataclass(frozen=True, slots=True)
class SavedResult:
    """`$`, the last saved search result (RFC 5182), or `UID $` if `is_uid`."""

    is_uid: bool = False


@dataclass(frozen=True, slots=True)
class HasFlag:
    """Messages with a flag: `\\Seen`, `\\Recent` or a keyword."""

    flag: str


@dataclass(frozen=True, slots=True)
class TextMatch:
    field: TextField
    text: str


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A header field that contains the text. "" matches any message with the field."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DateMatch:
    field: DateField
    day: date


@dataclass(frozen=True, slots=True)
class Larger:
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Smaller:
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Younger:
    """INTERNALDATE within the last `seconds` (RFC 5032)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Older:
    seconds: int


@dataclass(frozen=True, slots=True)
class ModifiedSince:
    """MODSEQ of at least this value (RFC 7162 §3.1.5). The optional entry name is ignored."""

    modseq: int


@dataclass(frozen=True, slots=True)
class ObjectId:
    """EMAILID or THREADID (RFC 8474)."""

    id: str
    is_thread: bool = False


SearchKey = (
    All
    | And
    | Or
    | Not
    | Numbers
    | SavedResult
    | HasFlag
    | TextMatch
    | HeaderMatch
    | DateMatch
    | Larger
    | Smaller
    | Younger
    | Older
    | ModifiedSince
    | ObjectId
)

FLAG_KEYS = {
    "\\answered": "ANSWERED",
    "\\deleted": "DELETED",
    "\\draft": "DRAFT",
    "\\flagged": "FLAGGED",
    "\\recent": "RECENT",
    "\\seen": "SEEN",
}


def is_ascii(key: SearchKey) -> bool:
    """Whether a search needs no CHARSET."""
    match key:
        case And(keys):
            return all(is_ascii(condition) for condition in keys)
        case Or(left, right):
            return is_ascii(left) and is_ascii(right)
        case Not(inner):
            return is_ascii(inner)
        case TextMatch(_, text) | HeaderMatch(_, text):
            return text.isascii()
        case _:
            return True


def encode(key: SearchKey, *, is_utf8: bool = False) -> list[Argument]:
    """Encode criteria as arguments. Raises InvalidRequest for unencodable text and for a tree deeper than MAX_DEPTH."""
    return _encode(key, is_utf8, MAX_DEPTH)


def _encode(key: SearchKey, is_utf8: bool, depth: int) -> list[Argument]:
    if depth == 0:
        raise InvalidRequest(f"A search may be nested at most {MAX_DEPTH} levels deep")
    match key:
        case And(keys):
            return [argument for condition in keys for argument in _encode(condition, is_utf8, depth - 1)] or [b"ALL"]
        case Or(left, right):
            return [b"OR", *_encode_as_one_key(left, is_utf8, depth), *_encode_as_one_key(right, is_utf8, depth)]
        case Not(HasFlag(name)) if name.lower() not in FLAG_KEYS:
            return [b"UNKEYWORD", flag(name)]
        case Not(inner):
            return [b"NOT", *_encode_as_one_key(inner, is_utf8, depth)]
        case TextMatch(field, text):
            return [field.encode(), string(text, is_utf8=is_utf8)]
        case HeaderMatch(name, text):
            return [b"HEADER", string(name, is_utf8=is_utf8), string(text, is_utf8=is_utf8)]
        case _:
            return _encode_plain(key)


def _encode_as_one_key(key: SearchKey, is_utf8: bool, depth: int) -> list[Argument]:
    """Encode criteria as one key, with parentheses around several."""
    arguments = _encode(key, is_utf8, depth - 1)
    return [arguments] if isinstance(key, And) else arguments


def _encode_plain(key: SearchKey) -> list[Argument]:
    match key:
        case Numbers(numbers, is_uid):
            return _encode_numbers(numbers, is_uid)
        case SavedResult(is_uid):
            return [b"UID", b"$"] if is_uid else [b"$"]
        case HasFlag(name):
            known = FLAG_KEYS.get(name.lower())
            return [known.encode()] if known else [b"KEYWORD", flag(name)]
        case DateMatch(field, day):
            return [field.encode(), render_date(day).encode()]
        case ObjectId(id_, is_thread):
            return [b"THREADID" if is_thread else b"EMAILID", atom(id_)]
        case Larger(amount) | Smaller(amount) | Younger(amount) | Older(amount):
            return [type(key).__name__.upper().encode(), number(amount)]
        case ModifiedSince(modseq):
            return [b"MODSEQ", number(modseq)]
        case _:
            return [b"ALL"]


def _encode_numbers(numbers: SequenceSet, is_uid: bool) -> list[Argument]:
    """Encode a set. An empty set becomes `NOT ALL`, because IMAP has no empty set."""
    if not numbers:
        return [b"NOT", b"ALL"]
    return [b"UID", str(numbers).encode()] if is_uid else [str(numbers).encode()]
