"""SORT and UID SORT (RFC 5256), with RETURN (RFC 5267) and the keys of RFC 5957."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, Readers
from app.wire.imap.requests.search import read_charset, read_keys, read_returning
from app.wire.imap.search import SearchKey


class SortKey(StrEnum):
    ARRIVAL = "ARRIVAL"
    CC = "CC"
    DATE = "DATE"
    DISPLAY_FROM = "DISPLAYFROM"
    DISPLAY_TO = "DISPLAYTO"
    FROM = "FROM"
    SIZE = "SIZE"
    SUBJECT = "SUBJECT"
    TO = "TO"


_KEYS = frozenset(SortKey)


@dataclass(frozen=True, slots=True)
class SortTerm:
    key: SortKey
    is_reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort(Command):
    """SORT or UID SORT. The keys of the `terms` are unique. `returning` is as in `Search`."""

    terms: tuple[SortTerm, ...]
    key: SearchKey
    returning: frozenset[str] | None = None
    is_uid: bool = False


def _sort(reader: ArgumentReader, *, is_uid: bool = False) -> Sort:
    returning = read_returning(reader)
    terms = reader.items(lambda: _term(reader))
    reader.space()
    read_charset(reader)
    reader.space()
    first_of_each: dict[SortKey, SortTerm] = {}
    for term in terms:
        first_of_each.setdefault(term.key, term)
    return Sort(tuple(first_of_each.values()), read_keys(reader), returning, is_uid)


def _term(reader: ArgumentReader) -> SortTerm:
    is_reverse = reader.skip_word("REVERSE")
    if is_reverse:
        reader.space()
    word = reader.word()
    if word not in _KEYS:
        reader.fail("Unknown sort key")
    return SortTerm(SortKey(word), is_reverse)


READERS: Readers = {"SORT": _sort, "UID SORT": partial(_sort, is_uid=True)}
