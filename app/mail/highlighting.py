"""Where the terms of a search stand in a text: snippets made of plain pieces, so that no markup has to be trusted."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from app.mail import filter as f
from app.mail.searchable import fold

BEFORE_CHARS, SNIPPET_CHARS = 60, 240
MATCHES_LIMIT = 20
"""Places of a text that are marked."""
_SPACE = re.compile(r"\s+")
_LINE_END = re.compile(r"[\r\n\t]")
_HEADER_FIELDS = ("subject", "from", "to", "cc")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a snippet as it is written, and whether a term stands there."""

    text: str
    is_match: bool


def terms_of(tree: f.Filter) -> dict[str, set[str]]:
    """Field → folded terms that a match may have there; what is excluded is not among them."""
    found: dict[str, set[str]] = {}
    match tree:
        case f.All(of) | f.Any(of):
            for condition in of:
                for field, terms in terms_of(condition).items():
                    found.setdefault(field, set()).update(terms)
        case f.Contains(field, value):
            found[field] = {fold(value)}
        case f.Text("body", value):
            found["body"] = {fold(value)}
        case f.Text("text", value):
            found |= {field: {fold(value)} for field in (*_HEADER_FIELDS, "body")}
        case _:
            pass
    return found


def snippet_of(text: str, terms: Collection[str]) -> list[Piece]:
    """What is around the first place where a folded term stands, in pieces; empty where none does. Linear.

    It begins and ends at a word where there are spaces.
    """
    ranges = list(_joined(sorted(_places(text, terms))))
    if not ranges:
        return []
    start = _word_start(text, max(ranges[0][0] - BEFORE_CHARS, 0), ranges[0][0])
    end = min(max(start + SNIPPET_CHARS, ranges[0][1]), len(text))
    pieces: list[Piece] = []
    position = start
    for low, high in ranges:
        if high > end:
            break
        pieces += [Piece(text[position:low], False), Piece(text[low:high], True)]
        position = high
    pieces.append(Piece(text[position : _word_end(text, position, end)], False))
    return [Piece(_LINE_END.sub(" ", piece.text), piece.is_match) for piece in pieces if piece.text]


def _word_start(text: str, start: int, limit: int) -> int:
    """The beginning of the first whole word in `start:limit`; `start` where no space is there."""
    space = _SPACE.search(text, start, limit) if start and not text[start - 1].isspace() else None
    return start if space is None else space.end()


def _word_end(text: str, limit: int, end: int) -> int:
    """The end of the last whole word in `limit:end`; `end` where no space is there."""
    if end < len(text) and not text[end].isspace():
        spaces = list(_SPACE.finditer(text, limit, end))
        return spaces[-1].start() if spaces else end
    return end


def snippets_of(
    texts: Mapping[str, Mapping[str, str]], terms: Mapping[str, Collection[str]]
) -> dict[str, dict[str, list[Piece]]]:
    """Key → field → snippet, of the texts by field of several messages; fields without a match are left out."""
    return {
        key: {field: pieces for field, text in fields.items() if (pieces := snippet_of(text, terms[field]))}
        for key, fields in texts.items()
    }


def _places(text: str, terms: Collection[str]) -> Iterator[tuple[int, int]]:
    """(start, end) in the text of what a term matches."""
    folded, ends = fold(text), None
    for term in terms:
        position = folded.find(term)
        for _ in range(MATCHES_LIMIT):
            if position < 0 or not term:
                break
            if len(folded) == len(text):
                yield position, position + len(term)
            else:
                ends = ends or list(accumulate(len(fold(char)) for char in text))
                yield _index_of(ends, position), _index_of(ends, position + len(term) - 1) + 1
            position = folded.find(term, position + len(term))


def _index_of(ends: list[int], position: int) -> int:
    """The character of the text that a place in its folded form comes from."""
    return bisect_right(ends, position)


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted ranges, those that touch or overlap made one."""
    low = high = -1
    for start, end in ranges:
        if start > high:
            if high >= 0:
                yield low, high
            low, high = start, end
        else:
            high = max(high, end)
    if high >= 0:
        yield low, high
