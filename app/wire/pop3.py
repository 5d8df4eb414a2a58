"""POP3 as bytes (RFC 1939, RFC 2449): commands, responses, and messages with their dots."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import MalformedRequest

LINE_LIMIT_BYTES = 12 * 1024
"""A command with an initial response of SASL (RFC 5034 §4), and its line end; others need 255."""
END = b".\r\n"
_HEADER_END = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: `verb` in capitals, and the rest of the line as it came (a password may hold spaces)."""

    verb: str
    argument: str

    def numbers(self, count: int) -> list[int]:
        """The arguments as that many numbers, at most; MalformedRequest for what is none."""
        words = self.argument.split()
        if len(words) > count or any(not word.isascii() or not word.isdigit() or len(word) > 10 for word in words):
            raise MalformedRequest("Numbers are expected")
        return [int(word) for word in words]


def parse_command(line: bytes) -> Command:
    """A line with its end; a bare LF is let pass. Raises MalformedRequest."""
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The command is no UTF-8") from None
    if "\0" in text or "\r" in text:
        raise MalformedRequest("The command holds a control character")
    verb, _, argument = text.partition(" ")
    return Command(verb.upper(), argument)


def ok(text: str = "") -> bytes:
    return f"+OK {text}".rstrip().encode("ascii", "replace") + b"\r\n"


def error(text: str, code: str | None = None) -> bytes:
    """-ERR, with an extended response code (RFC 2449 §8, RFC 3206) where there is one."""
    prefix = f"[{code}] " if code else ""
    return f"-ERR {prefix}{text}\r\n".encode("ascii", "replace")


class DotWriter:
    """Makes a message, piece by piece, what a multi-line response holds: lines that end with CRLF, dots doubled.

    A bare LF that was stored somehow leaves as CRLF, lest it end a line where no dot was doubled.
    """

    def __init__(self) -> None:
        self._is_line_start = True
        self._is_after_cr = False

    def feed(self, piece: bytes) -> bytes:
        text = b"\r" + piece if self._is_after_cr else piece
        self._is_after_cr = text.endswith(b"\r")
        text = text[:-1] if self._is_after_cr else text
        if not text:
            return b""
        if text.count(b"\n") != text.count(b"\r\n"):
            text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        stuffed = text.replace(b"\n.", b"\n..")
        if self._is_line_start and stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._is_line_start = stuffed.endswith(b"\n")
        return stuffed

    def finish(self) -> bytes:
        """The end of the response, with the line end that the message may lack."""
        return END if self._is_line_start and not self._is_after_cr else b"\r\n" + END


class Top:
    """The header and the first lines of the body (TOP), cut from a message that comes in pieces."""

    def __init__(self, body_lines: int) -> None:
        self._lines_left = body_lines
        self._is_in_header = True
        self._tail = b"\n"  # as if a line had ended before it
        self.is_full = False
        """The rest is not needed."""

    def feed(self, piece: bytes) -> bytes:
        if not self._is_in_header:
            return self._body(piece)
        window = self._tail + piece
        end = _HEADER_END.search(window)
        if end is None:
            self._tail = window[-2:]
            return piece
        self._is_in_header = False
        cut = end.end() - len(self._tail)
        return piece[:cut] + self._body(piece[cut:])

    def _body(self, piece: bytes) -> bytes:
        at = 0
        while self._lines_left and (end := piece.find(b"\n", at)) >= 0:
            at = end + 1
            self._lines_left -= 1
        self.is_full = not self._lines_left
        return piece[:at] if self.is_full else piece
