"""Counts the values of a JSON text while it arrives, so that expensive texts are refused before they are parsed."""

from __future__ import annotations

import re

from app.errors import Fault, MalformedRequest, TooLarge

VALUES_LIMIT = 50_000
"""Values in one body. The largest valid request, a message to 4,000 addresses, has a third of this number."""

DEPTH_LIMIT = 1_000
"""Nesting depth; checked between pieces, and exactly by the parser."""

_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OUTSIDE = re.compile(rb'[^"]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"]*)*', re.DOTALL)
"""Everything up to a string that the text does not close. Each position matches in one way only, so it is linear.

It has no possessive quantifiers: in Python 3.11 a failed one loses its start position.
"""


class JsonGauge:
    """Accepts a JSON text in pieces of any size, in linear time."""

    def __init__(self, limit: int = VALUES_LIMIT) -> None:
        self._limit = limit
        self._values = 0
        self._open = 0
        self._is_in_string = False
        self._is_escaped = False

    def feed(self, piece: bytes) -> None:
        """Count the values of the next piece. Raises TooLarge or, if nested too deeply, MalformedRequest."""
        position = self._skip_string(piece)
        if position >= len(piece):
            return
        end = _OUTSIDE.match(piece, position).end()  # type: ignore[union-attr]  # it matches the empty text too
        outside = _STRING.sub(b"", piece[position:end])
        opened = outside.count(b"[") + outside.count(b"{")
        self._open += opened - outside.count(b"]") - outside.count(b"}")
        self._values += opened + outside.count(b",")
        if self._open > DEPTH_LIMIT:
            raise MalformedRequest("The JSON is nested too deeply", [Fault("Is nested too deeply", pointer="")])
        if self._values > self._limit:
            raise TooLarge(f"The JSON has more than {self._limit} values")
        if end < len(piece):
            self._is_in_string = True
            self._skip_string(piece, end + 1)

    def _skip_string(self, piece: bytes, position: int = 0) -> int:
        """Return the end of the string that is open at `position`, or the length of the piece."""
        if not self._is_in_string:
            return position
        if self._is_escaped and position < len(piece):
            self._is_escaped = False
            position += 1
        end = _REST_OF_STRING.match(piece, position).end()  # type: ignore[union-attr]  # as above
        if end == len(piece):
            return end
        if piece[end] == 0x5C:  # a backslash whose character is in the next piece
            self._is_escaped = True
            return len(piece)
        self._is_in_string = False
        return end + 1
