"""SEARCH and UID SEARCH (RFC 9051 §6.4.4; RFC 4731, 5032, 5182, 7162, 8474, 8514)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.wire.imap.arguments import ArgumentReader, UnsupportedCharset
from app.wire.imap.request import Command, Readers
from app.wire.imap.search import (
    FLAG_KEYS,
    MAX_DEPTH,
    All,
    And,
    DateField,
    DateMatch,
    HasFlag,
    HeaderMatch,
    Larger,
    ModifiedSince,
    Not,
    Numbers,
    ObjectId,
    Older,
    Or,
    SavedResult,
    SearchKey,
    Smaller,
    TextField,
    TextMatch,
    Younger,
)

MAX_KEYS = 1_000
RETURN_OPTIONS = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE"})
CHARSETS = frozenset({"UTF-8", "US-ASCII"})


@dataclass(frozen=True, slots=True)
class Search(Command):
    """SEARCH or UID SEARCH. `returning` is None without RETURN; empty for `RETURN ()`, which means ALL (RFC 4731)."""

    key: SearchKey
    returning: frozenset[str] | None = None
    is_uid: bool = False


def _search(reader: ArgumentReader, *, is_uid: bool = False) -> Search:
    returning = read_returning(reader)
    if reader.skip_word("CHARSET"):
        reader.space()
        read_charset(reader)
        reader.space()
    return Search(read_keys(reader), returning, is_uid)


def read_returning(reader: ArgumentReader) -> frozenset[str] | None:
    """The options of `RETURN (…)`, and the space after it; None without RETURN. Raises CommandSyntaxError."""
    if not reader.skip_word("RETURN"):
        return None
    reader.space()
    returning = frozenset(reader.items_or_empty(lambda: _return_option(reader)))
    reader.space()
    return returning


def _return_option(reader: ArgumentReader) -> str:
    option = reader.word()
    if option not in RETURN_OPTIONS:
        reader.fail("Unknown RETURN option")
    return option


def read_charset(reader: ArgumentReader) -> None:
    """Read a charset, which must be UTF-8 or US-ASCII. Raises CommandSyntaxError, UnsupportedCharset."""
    charset = reader.text().upper()
    if charset not in CHARSETS:
        raise UnsupportedCharset(charset)


def read_keys(reader: ArgumentReader) -> SearchKey:
    """Read one or more search keys to the end of the command. Raises CommandSyntaxError."""
    return _KeyReader(reader).keys()


class _KeyReader:
    """Reads search keys, with limits on their number and nesting."""

    def __init__(self, reader: ArgumentReader) -> None:
        self._reader = reader
        self._count = 0

    def keys(self) -> SearchKey:
        """Read one or more keys to the end of the command."""
        keys = [self._key(MAX_DEPTH)]
        while self._reader.skip(b" "):
            keys.append(self._key(MAX_DEPTH))
        self._reader.end()
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def _key(self, depth: int) -> SearchKey:
        self._count += 1
        if depth == 0 or self._count > MAX_KEYS:
            self._reader.fail("The search is too large")
        if self._reader.next_is(b"("):
            keys = self._reader.items(lambda: self._key(depth - 1))
            return keys[0] if len(keys) == 1 else And(tuple(keys))
        word = self._reader.next_word()
        if not word or word[0] in "0123456789$":
            return self._numbers(is_uid=False)
        return self._named(self._reader.word(), depth)

    def _named(self, word: str, depth: int) -> SearchKey:
        if word in _PLAIN:
            return _PLAIN[word]
        if word not in ("NOT", "OR", "UID") and word not in _WITH_ARGUMENT:
            self._reader.fail("Unknown search key")
        self._reader.space()
        match word:
            case "NOT":
                return Not(self._key(depth - 1))
            case "OR":
                left = self._key(depth - 1)
                self._reader.space()
                return Or(left, self._key(depth - 1))
            case "UID":
                return self._numbers(is_uid=True)
            case _:
                return _WITH_ARGUMENT[word](self._reader)

    def _numbers(self, *, is_uid: bool) -> SearchKey:
        if self._reader.skip(b"$"):
            return SavedResult(is_uid)
        return Numbers(self._reader.sequence_set(), is_uid)


def _text(field: TextField) -> Callable[[ArgumentReader], SearchKey]:
    return lambda reader: TextMatch(field, reader.text())


def _date(field: DateField) -> Callable[[ArgumentReader], SearchKey]:
    return lambda reader: DateMatch(field, reader.day())


def _header(reader: ArgumentReader) -> SearchKey:
    name = reader.text()
    reader.space()
    return HeaderMatch(name, reader.text())


def _interval(reader: ArgumentReader) -> int:
    """A positive number of seconds (RFC 5032 §3)."""
    return reader.number() or reader.fail("The interval must not be 0 seconds")


def _modseq(reader: ArgumentReader) -> SearchKey:
    """Parse MODSEQ, with or without the optional entry name and type (RFC 7162 §3.1.5)."""
    if reader.next_is(b'"'):
        reader.string()
        reader.space()
        if reader.word() not in ("ALL", "PRIV", "SHARED"):
            reader.fail("Unknown entry type")
        reader.space()
    return ModifiedSince(reader.number())


_SEEN = HasFlag("\\Seen")
_RECENT = HasFlag("\\Recent")
_FLAGS = {word: HasFlag(flag[0] + flag[1:].capitalize()) for flag, word in FLAG_KEYS.items()}
_PLAIN: dict[str, SearchKey] = {
    "ALL": All(),
    "NEW": And((_RECENT, Not(_SEEN))),
    "OLD": Not(_RECENT),
    "SAVEDATESUPPORTED": All(),
    **_FLAGS,
    **{f"UN{word}": Not(flag) for word, flag in _FLAGS.items() if word != "RECENT"},
}
_WITH_ARGUMENT: dict[str, Callable[[ArgumentReader], SearchKey]] = {
    **{field.value: _text(field) for field in TextField},
    **{field.value: _date(field) for field in DateField},
    "HEADER": _header,
    "KEYWORD": lambda reader: HasFlag(reader.flag()),
    "UNKEYWORD": lambda reader: Not(HasFlag(reader.flag())),
    "LARGER": lambda reader: Larger(reader.number()),
    "SMALLER": lambda reader: Smaller(reader.number()),
    "OLDER": lambda reader: Older(_interval(reader)),
    "YOUNGER": lambda reader: Younger(_interval(reader)),
    "MODSEQ": _modseq,
    "EMAILID": lambda reader: ObjectId(reader.text()),
    "THREADID": lambda reader: ObjectId(reader.text(), is_thread=True),
}

READERS: Readers = {"SEARCH": _search, "UID SEARCH": partial(_search, is_uid=True)}
