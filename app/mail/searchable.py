"""What a search looks at: text folded for comparison, so that `term in text` is IMAP's substring search."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum

OWN_HEADER_END = PART_END = "\f"
"""No term holds a control character."""
_REMEMBERED = 20_000


class TextState(IntEnum):
    """How far a message's text has come into the full-text index."""

    AWAITED = 0
    INDEXED = 1
    LEFT_OUT = 2
    """Too large, or beyond what the account may hold: a search asks the origin."""
    UNREAD = 3
    """Its mail server does not return the message: the row stands for it and gives the reason. It is fetched again."""


@dataclass(frozen=True, slots=True)
class Searchable:
    """The text of one message. `header` and `body` are folded.

    `header` holds the fields of the message, then those of its parts: one a line, as `NAME: value`, `\\n` before and
    after each; a form feed ends the message's own. `body` holds the text parts, each ended by a form feed. `shown` is
    what a reader sees of the message, as it is written.
    """

    header: str
    body: str
    shown: str

    @property
    def size_bytes(self) -> int:
        """About what it takes to keep, without its index."""
        return len(self.header) + len(self.body)


class _Folding(dict[int, str]):
    """Character → what stands for it, found when it is first met."""

    def __missing__(self, code: int) -> str:
        found = _folded(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = found
        return found


def _folded(char: str) -> str:
    title = char.title()
    title = title if len(title) == 1 else char  # the one-to-one mapping of UnicodeData.txt
    if "\ud800" <= title <= "\udfff":
        return "\ufffd"
    pieces = unicodedata.decomposition(title).split()
    return "".join(chr(int(piece, 16)) for piece in pieces if not piece.startswith("<")) or title


_FOLDING = _Folding()


def fold(text: str) -> str:
    """Text as Dovecot compares it: each character in title case, then decomposed once. Linear.

    `é` becomes `E` and an accent, so that `caf` and `cafe` are found in `café`; what a letter decomposes into keeps its
    case, and `ß` stays what it is.
    """
    return text.upper() if text.isascii() else text.translate(_FOLDING)


def contains(text: Searchable, scope: str, folded: str) -> bool:
    """Whether a message's text matches; `scope` as in `filter.Text`."""
    if scope == "body":
        return folded in text.body
    if scope == "text":
        return folded in text.body or folded in text.header
    return has_field(text.header, scope.removeprefix("header:"), folded)


def field_mark(name: str) -> str:
    """What a header that has a field of this name contains."""
    return "\n" + fold(name)


def has_field(header: str, name: str, folded: str) -> bool:
    """Whether the message's own header has a field of this name that contains folded text.

    `header` as in `Searchable`. An empty text is in every field.
    """
    wanted = fold(name)
    for line in header.partition(OWN_HEADER_END)[0].split("\n"):
        key, colon, value = line.partition(":")
        if colon and key.rstrip() == wanted and folded in value.lstrip(" \t"):
            return True
    return False
