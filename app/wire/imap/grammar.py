"""The grammar under every IMAP response (RFC 9051 §9): text and literals to nested values.

Text is split by one compiled pattern in one call, so the cost is that of the C scanner. A quotation mark within a
quoted string that a server forgot to escape ends it only where a string can end: before a space, a parenthesis or the
end of the text. Atoms and quoted strings
become `str` (UTF-8, other bytes surrogate-escaped), literals stay `bytes`, NIL is None, a list is a `list`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.errors import ServerProtocolError
from app.wire.imap.framing import Part, StreamedLiteral

Value = str | bytes | StreamedLiteral | None | list["Value"]

MAX_NESTING = 120
MAX_NUMBER_64 = (1 << 63) - 1
MAX_TOKENS = 30_000
"""Of one stretch of text: a thousand parts have 25,000, four thousand addresses 24,000."""
_SEPARATORS = ' ()"'
_MAX_SEPARATORS = 4 * MAX_TOKENS
"""Tokens are split by these, so a text with fewer has few tokens; it may have more of them inside strings."""

_TOKEN = re.compile(
    r"""
      [()]
    | "[^"\\]*+(?:(?:\\.|"(?![ ()\t\r\n]|\Z))[^"\\]*+)*"           # a quoted string
    | (?:BODY|BINARY(?:\.SIZE)?)\[[^][]*\](?:<[0-9]+>)?         # a section, the one atom with spaces and parentheses
    | [^ ()"\t\r\n]+                                            # an atom
    | ".*                                                       # a quoted string without end swallows the rest
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE | re.ASCII,
)
_QUOTED = re.compile(r'"[^"\\]*+(?:(?:\\.|")[^"\\]*+)*"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse(parts: Sequence[Part], max_nesting: int = MAX_NESTING) -> list[Value]:
    """The values of a response, in order.

    Raises ServerProtocolError for a string without end, parentheses that don't match, or lists nested too deep.
    """
    values: list[Value] = []
    above: list[list[Value]] = []
    for index, part in enumerate(parts):
        if index % 2 or not isinstance(part, bytes):
            values.append(part)
        else:
            values = _parse_text(part.decode("utf-8", "surrogateescape"), values, above, max_nesting)
    if above:
        raise ServerProtocolError("A list in a response has no end")
    return values


def _parse_text(text: str, values: list[Value], above: list[list[Value]], max_nesting: int) -> list[Value]:
    """Add the values of `text` to the innermost open list `values`; returns the one that is innermost at its end."""
    for piece in _tokens(text):
        first = piece[0]
        if first == '"':  # the commonest first, since this loop is the cost of a list
            is_plain = "\\" not in piece and piece[-1] == '"' and len(piece) > 1
            values.append(piece[1:-1] if is_plain else _unquoted(piece))
        elif piece == "NIL":
            values.append(None)
        elif first == "(":
            inner: list[Value] = []
            values.append(inner)
            above.append(values)
            values = inner
            if len(above) > max_nesting:
                raise ServerProtocolError(f"Lists in a response are nested deeper than {max_nesting}")
        elif first == ")":
            if not above:
                raise ServerProtocolError("A list in a response has no start")
            values = above.pop()
        else:
            values.append(piece if len(piece) != 3 or piece.upper() != "NIL" else None)
    return values


def _tokens(text: str) -> list[str]:
    is_long = sum(map(text.count, _SEPARATORS)) > _MAX_SEPARATORS
    found: list[str] = [] if is_long else _TOKEN.findall(text)
    if is_long or len(found) > MAX_TOKENS:
        raise ServerProtocolError(f"A response holds more than {MAX_TOKENS} values")
    return found


def _unquoted(token: str) -> str:
    if not _QUOTED.fullmatch(token):
        raise ServerProtocolError("A quoted string in a response has no end")
    return _ESCAPED.sub(r"\1", token[1:-1])


def text_of(value: Value) -> str | None:
    """A string of any form as text, None for NIL. Raises ServerProtocolError for a list or a streamed literal."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise ServerProtocolError("A response holds something else where a string should be")


def list_of(value: Value) -> list[Value]:
    """A list, empty for NIL. Raises ServerProtocolError for a string."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise ServerProtocolError("A response holds a string where a list should be")


def number_of(value: Value) -> int:
    """A number of up to 63 bits (RFC 9051 §9), the highest for a larger one. ServerProtocolError for no number."""
    return min(digits_of(value), MAX_NUMBER_64)


def digits_of(value: Value) -> int:
    """A number of up to 20 digits. Raises ServerProtocolError for anything else."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    raise ServerProtocolError("A response holds something else where a number should be")
