"""Snippets of a text around search terms, made of plain pieces, so that no markup has to be trusted."""

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
"""The most matches that are marked in a text."""
_SPACE = re.compile(r"\s+")
_LINE_END = re.compile(r"[\r\n\t]")
_HEADER_FIELDS = ("subject", "from", "to", "cc")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A stretch of a snippet as written, and whether it matches a term."""

    text: str
    is_match: bool


def terms_of(tree: f.Filter) -> dict[str, set[str]]:
    """Return field → folded terms that may match there, without excluded terms."""
    folded: dict[str, set[str]] = {}
    match tree:
        case f.All(of) | f.Any(of):
            for condition in of:
                for field, terms in terms_of(condition).items():
                    folded.setdefault(field, set()).update(terms)
        case f.Contains(field, value):
            folded[field] = {fold(value)}
        case f.Text("body", value):
            folded["body"] = {fold(value)}
        case f.Text("text", value):
            folded |= {field: {fold(value)} for field in (*_HEADER_FIELDS, "body")}
        case _:
            pass
    return folded


def snippet_of(text: str, terms: Collection[str]) -> list[TextPiece]:
    """Return the text around the first match of a folded term, in pieces; empty if there is no match. Linear.

    It begins and ends at a word boundary if the text has spaces.
    """
    ranges = list(_joined(sorted(_places(text, terms))))
    if not ranges:
        return []
    start = _word_start(text, max(ranges[0][0] - BEFORE_CHARS, 0), ranges[0][0])
    end = min(max(start + SNIPPET_CHARS, ranges[0][1]), len(text))
    pieces: list[TextPiece] = []
    position = start
    for low, high in ranges:
        if high > end:
            break
        pieces += [TextPiece(text[position:low], False), TextPiece(text[low:high], True)]
        position = high
    pieces.append(TextPiece(text[position : _word_end(text, position, end)], False))
    return [TextPiece(_LINE_END.sub(" ", piece.text), piece.is_match) for piece in pieces if piece.text]


def _word_start(text: str, start: int, limit: int) -> int:
    """Return the start of the first whole word in `start:limit`; `start` if there is no space."""
    space = _SPACE.search(text, start, limit) if start and not text[start - 1].isspace() else None
    return start if space is None else space.end()


def _word_end(text: str, limit: int, end: int) -> int:
    """Return the end of the last whole word in `limit:end`; `end` if there is no space."""
    if end < len(text) and not text[end].isspace():
        spaces = list(_SPACE.finditer(text, limit, end))
        return spaces[-1].start() if spaces else end
    return end


def snippets_of(
    texts: Mapping[str, Mapping[str, str]], terms: Mapping[str, Collection[str]]
) -> dict[str, dict[str, list[TextPiece]]]:
    """Return key → field → snippet for the texts of several messages, omitting fields without a match."""
    return {
        key: {field: pieces for field, text in fields.items() if (pieces := snippet_of(text, terms[field]))}
        for key, fields in texts.items()
    }


def _places(text: str, terms: Collection[str]) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) in the text of each match."""
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
    """Return the character of the text that a position in its folded form comes from."""
    return bisect_right(ends, position)


def _joined(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Merge sorted ranges that touch or overlap."""
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
