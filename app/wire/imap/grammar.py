"""The grammar of IMAP responses (RFC 9051 §9): text and literals to nested values.

One compiled pattern splits the text in one call, at the speed of the C scanner. A quotation mark that a server failed
to escape ends a quoted string only where a string can end: before a space, a parenthesis or the end of the text.
Atoms and quoted strings become `str` (UTF-8, with other bytes surrogate-escaped), literals stay `bytes`, NIL is None,
and a list is a `list`.
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
"""Tokens of one piece of text. A thousand parts have 25,000, four thousand addresses 24,000."""
_SEPARATORS = ' ()"'
_MAX_SEPARATORS = 4 * MAX_TOKENS
"""Separators of one piece of text, checked before it is split. Strings may contain further separators."""

_TOKEN = re.compile(
    r"""
      [()]
    | "[^"\\]*+(?:(?:\\.|"(?![ ()\t\r\n]|\Z))[^"\\]*+)*"           # a quoted string
    | (?:BODY|BINARY(?:\.SIZE)?)\[[^][]*\](?:<[0-9]+>)?         # a section, the only atom with spaces and parentheses
    | [^ ()"\t\r\n]+                                            # an atom
    | ".*                                                       # an unclosed quoted string extends to the end
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE | re.ASCII,
)
_QUOTED = re.compile(r'"[^"\\]*+(?:(?:\\.|")[^"\\]*+)*"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse(parts: Sequence[Part], max_nesting: int = MAX_NESTING) -> list[Value]:
    """Parse the values of a response, in order.

    Raises ServerProtocolError for an unclosed string, unbalanced parentheses, or lists nested too deep.
    """
    values: list[Value] = []
    above: list[list[Value]] = []
    for index, part in enumerate(parts):
        if index % 2 or not isinstance(part, bytes):
            values.append(part)
        else:
            values = _parse_text(part.decode("utf-8", "surrogateescape"), values, above, max_nesting)
    if above:
        raise ServerProtocolError("A list in a response is not closed")
    return values


def _parse_text(text: str, values: list[Value], above: list[list[Value]], max_nesting: int) -> list[Value]:
    """Add the values of `text` to the innermost open list, `values`. Return the innermost open list at its end."""
    for piece in _tokens(text):
        first = piece[0]
        if first == '"':  # the most frequent case first: this loop is the main cost of listing
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
                raise ServerProtocolError(f"Lists in a response are nested more than {max_nesting} levels deep")
        elif first == ")":
            if not above:
                raise ServerProtocolError("A response has an unexpected closing parenthesis")
            values = above.pop()
        else:
            values.append(piece if len(piece) != 3 or piece.upper() != "NIL" else None)
    return values


def _tokens(text: str) -> list[str]:
    is_long = sum(map(text.count, _SEPARATORS)) > _MAX_SEPARATORS
    tokens: list[str] = [] if is_long else _TOKEN.findall(text)
    if is_long or len(tokens) > MAX_TOKENS:
        raise ServerProtocolError(f"A response has more than {MAX_TOKENS} values")
    return tokens


def _unquoted(token: str) -> str:
    if not _QUOTED.fullmatch(token):
        raise ServerProtocolError("A quoted string in a response is not closed")
    return _ESCAPED.sub(r"\1", token[1:-1])


def text_of(value: Value) -> str | None:
    """The text of an atom, string or inline literal; None for NIL. Raises ServerProtocolError for other values."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise ServerProtocolError("A response lacks an expected string")


def list_of(value: Value) -> list[Value]:
    """A list, empty for NIL. Raises ServerProtocolError for other values."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise ServerProtocolError("A response lacks an expected list")


def number_of(value: Value) -> int:
    """A number, at most MAX_NUMBER_64 (RFC 9051 §9). Larger numbers are reduced to it. Raises ServerProtocolError."""
    return min(digits_of(value), MAX_NUMBER_64)


def digits_of(value: Value) -> int:
    """A number of up to 20 digits. Raises ServerProtocolError for anything else."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    raise ServerProtocolError("A response lacks an expected number")
