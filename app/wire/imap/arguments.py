"""Parsing of a command's arguments (RFC 9051 §9), the server's counterpart of `encode`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import NoReturn, TypeVar

from app.errors import MalformedRequest
from app.wire.imap.dates import parse_date, parse_date_time
from app.wire.imap.framing import Part
from app.wire.imap.names import read_name
from app.wire.imap.sets import SequenceSet

_T = TypeVar("_T")

MAX_LIST_ITEMS = 10_000

ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_LIST_MAILBOX = re.compile(rb'[^\x00-\x20\x7f-\xff(){"\\]+')
_QUOTED = re.compile(rb'"([^"\\\r\n\x00]*+(?:\\["\\][^"\\\r\n\x00]*+)*)"')
_ESCAPED = re.compile(rb'\\(["\\])')
_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_NUMBER = re.compile(rb"[0-9]{1,19}(?![0-9])")
_SET = re.compile(rb"[0-9*:,]+")
_SPACE = b" "


class CommandSyntaxError(MalformedRequest):
    """A command with invalid syntax, to answer with `tag BAD text`. `tag` is "*" if it has none."""

    def __init__(self, text: str, tag: str = "*") -> None:
        super().__init__(text)
        self.tag = tag


class UnsupportedCharset(MalformedRequest):
    """A SEARCH in an unsupported charset, to answer with `tag NO [BADCHARSET …]` (RFC 9051 §6.4.4)."""

    def __init__(self, charset: str, tag: str = "*") -> None:
        super().__init__(f"The charset {charset} is not supported")
        self.charset = charset
        self.tag = tag


class ArgumentReader:
    """A position in a command, which advances as arguments are read.

    Every method raises CommandSyntaxError if the command continues differently. `is_utf8` means that UTF8=ACCEPT or
    IMAP4rev2 is enabled, so that mailbox names are UTF-8.
    """

    __slots__ = ("_at", "_index", "_parts", "_text", "is_utf8")

    def __init__(self, parts: Sequence[Part], *, is_utf8: bool = False) -> None:
        self._parts = parts
        self._index = 0
        self._text = self._piece(0)
        self._at = 0
        self.is_utf8 = is_utf8

    def _piece(self, index: int) -> bytes:
        piece = self._parts[index] if index < len(self._parts) else b""
        assert isinstance(piece, bytes)
        return piece

    def fail(self, text: str) -> NoReturn:
        raise CommandSyntaxError(text)

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        """The match of a pattern at this position. `what` names it in the error."""
        match = pattern.match(self._text, self._at)
        if match is None:
            self.fail(f"{what} expected")
        self._at = match.end()
        return match

    def next_is(self, text: bytes) -> bool:
        return self._text.startswith(text, self._at)

    def skip(self, text: bytes) -> bool:
        """Move past `text` if it comes next. Return whether it did."""
        if self.next_is(text):
            self._at += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        if not self.skip(text):
            self.fail("A space is missing" if text == _SPACE else f"{text.decode('ascii')} expected")

    def space(self) -> None:
        self.expect(_SPACE)

    def is_at_end(self) -> bool:
        return self._at == len(self._text) and not self._is_literal_next()

    def end(self) -> None:
        if not self.is_at_end():
            self.fail("Unexpected text after the command")

    def word(self) -> str:
        """A protocol word (an atom), in upper case."""
        return self.match(ATOM, "A word")[0].decode("ascii").upper()

    def next_word(self) -> str:
        """The next atom in upper case, without moving past it; "" if there is none."""
        match = ATOM.match(self._text, self._at)
        return match[0].decode("ascii").upper() if match else ""

    def skip_word(self, word: str) -> bool:
        """Move past this word if it comes next. Return whether it did."""
        if self.next_word() != word:
            return False
        self._at += len(word)
        return True

    def number(self) -> int:
        """A number of up to 63 bits."""
        value = int(self.match(_NUMBER, "A number")[0])
        if value >= 2**63:
            self.fail("A number is too large")
        return value

    def _is_literal_next(self) -> bool:
        return self._at == len(self._text) and self._index + 1 < len(self._parts)

    def literal(self) -> Part:
        """A literal, inline or streamed."""
        if not self._is_literal_next():
            self.fail("A literal expected")
        literal = self._parts[self._index + 1]
        self._index += 2
        self._text, self._at = self._piece(self._index), 0
        return literal

    def string(self) -> bytes:
        """A quoted string or an inline literal."""
        if self._is_literal_next():
            literal = self.literal()
            if not isinstance(literal, bytes) or b"\x00" in literal:
                self.fail("A string is too long or contains NUL")
            return literal
        content = self.match(_QUOTED, "A string")[1]
        return _ESCAPED.sub(rb"\1", content) if b"\\" in content else content

    def astring(self) -> bytes:
        """A string or an atom (astring)."""
        if self._is_literal_next() or self.next_is(b'"'):
            return self.string()
        return self.match(_ASTRING_ATOM, "A string")[0]

    def text(self) -> str:
        """An astring as text, which must be UTF-8."""
        return self._decoded(self.astring())

    def nstring(self) -> str | None:
        """A string, or None for NIL."""
        return None if self.skip_word("NIL") else self._decoded(self.string())

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("Text is not UTF-8")

    def mailbox(self) -> str:
        """A mailbox name as text. INBOX is case-insensitive (RFC 9051 §5.1)."""
        return self._name(self.astring())

    def mailbox_pattern(self) -> str:
        """A mailbox name with the wildcards `*` and `%`."""
        if self._is_literal_next() or self.next_is(b'"'):
            return self._name(self.string())
        return self._name(self.match(_LIST_MAILBOX, "A pattern")[0])

    def _name(self, wire: bytes) -> str:
        text = self._decoded(wire)
        name = text if self.is_utf8 else read_name(text)
        return "INBOX" if name.upper() == "INBOX" else name

    def flag(self) -> str:
        return self.match(_FLAG, "A flag")[0].decode("ascii")

    def sequence_set(self) -> SequenceSet:
        try:
            return SequenceSet.parse(self.match(_SET, "A set of numbers")[0].decode("ascii"))
        except ValueError:
            self.fail("A set of numbers is malformed")

    def date_time_ms(self) -> int:
        """A quoted date and time as ms since 1970 UTC."""
        return self._dated(self.string(), parse_date_time)

    def day(self) -> date:
        """A search date, quoted or not."""
        return self._dated(self.astring(), parse_date)

    def _dated(self, wire: bytes, parse: Callable[[str], _T]) -> _T:
        try:
            return parse(wire.decode("ascii"))
        except ValueError:
            self.fail("A date is malformed")

    def items(self, read: Callable[[], _T]) -> list[_T]:
        """A non-empty list in parentheses, whose items `read` reads."""
        items = self.items_or_empty(read)
        if not items:
            self.fail("A list is empty")
        return items

    def items_or_empty(self, read: Callable[[], _T]) -> list[_T]:
        """A list in parentheses, possibly empty, whose items `read` reads."""
        self.expect(b"(")
        items: list[_T] = []
        while not self.skip(b")"):
            if items:
                self.space()
            if len(items) == MAX_LIST_ITEMS:
                self.fail("A list is too long")
            items.append(read())
        return items
