"""The text that a search examines, folded for comparison, so that `term in text` is IMAP's substring search."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum

OWN_HEADER_END = PART_END = "\f"
"""Never part of a term: terms have no control characters."""
_REMEMBERED = 20_000


class TextState(IntEnum):
    """Whether a message's text is in the full-text index."""

    AWAITED = 0
    INDEXED = 1
    LEFT_OUT = 2
    """Too large, or over the account's limit: a search asks the mail server."""
    UNREAD = 3
    """The mail server does not return the message. The row gives the reason, and the message is fetched again later."""


@dataclass(frozen=True, slots=True)
class Searchable:
    r"""The text of one message. `header` and `body` are folded.

    `header` holds the header fields of the message, then those of its parts: one per line, as `NAME: value`, with
    `\n` before and after each; a form feed ends the message's own fields. `body` holds the text parts, each ended by
    a form feed. `shown` is the text that a reader sees, as written.
    """

    header: str
    body: str
    shown: str

    @property
    def size_bytes(self) -> int:
        """The approximate storage size, without its index."""
        return len(self.header) + len(self.body)


class _Folding(dict[int, str]):
    """Character → its folded form, computed on first use."""

    def __missing__(self, code: int) -> str:
        folded = _folded(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = folded
        return folded


def _folded(char: str) -> str:
    title = char.title()
    title = title if len(title) == 1 else char  # the one-to-one mapping of UnicodeData.txt
    if "\ud800" <= title <= "\udfff":
        return "\ufffd"
    pieces = unicodedata.decomposition(title).split()
    return "".join(chr(int(piece, 16)) for piece in pieces if not piece.startswith("<")) or title


_FOLDING = _Folding()


def fold(text: str) -> str:
    """Fold text as Dovecot does: each character to title case, then decomposed once. Linear.

    `é` becomes `E` and an accent, so that `caf` and `cafe` match `café`. The characters of a decomposition keep their
    case, and `ß` does not change.
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
    """Return the text that a header contains if it has a field of this name."""
    return "\n" + fold(name)


def has_field(header: str, name: str, folded: str) -> bool:
    """Whether the message's own header has a field of this name that contains the folded text.

    `header` is as in `Searchable`. Every field contains the empty text.
    """
    wanted = fold(name)
    for line in header.partition(OWN_HEADER_END)[0].split("\n"):
        key, colon, value = line.partition(":")
        if colon and key.rstrip() == wanted and folded in value.lstrip(" \t"):
            return True
    return False
