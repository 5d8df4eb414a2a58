"""The server side of POP3 (RFC 1939, RFC 2449): parsing of commands, encoding of responses and messages."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import MalformedRequest

LINE_LIMIT_BYTES = 12 * 1024
"""The longest command: AUTH with an initial response (RFC 5034 §4), and its line end. Other commands need 255."""
END = b".\r\n"
_HEADER_END = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class Pop3Command:
    """A command line: `verb` in upper case, and the rest of the line unchanged (a password may contain spaces)."""

    verb: str
    argument: str

    def numbers(self, count: int) -> list[int]:
        """The arguments as at most `count` numbers. Raises MalformedRequest."""
        words = self.argument.split()
        if len(words) > count or any(not word.isascii() or not word.isdigit() or len(word) > 10 for word in words):
            raise MalformedRequest("Message numbers are expected")
        return [int(word) for word in words]


def parse_command(line: bytes) -> Pop3Command:
    """Parse a line with its end. A bare LF is accepted. Raises MalformedRequest."""
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The command is not valid UTF-8") from None
    if "\0" in text or "\r" in text:
        raise MalformedRequest("The command contains a control character")
    verb, _, argument = text.partition(" ")
    return Pop3Command(verb.upper(), argument)


def ok(text: str = "") -> bytes:
    return f"+OK {text}".rstrip().encode("ascii", "replace") + b"\r\n"


def error(text: str, code: str | None = None) -> bytes:
    """-ERR, with an optional extended response code (RFC 2449 §8, RFC 3206)."""
    prefix = f"[{code}] " if code else ""
    return f"-ERR {prefix}{text}\r\n".encode("ascii", "replace")


class DotWriter:
    """Encodes a message in pieces for a multi-line response: CRLF line ends, and dots doubled at the start of lines.

    A stored bare LF is sent as CRLF: a client might otherwise treat it as a line end before an undoubled dot.
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
        """The end of the response, after a missing final line end."""
        return END if self._is_line_start and not self._is_after_cr else b"\r\n" + END


class Top:
    """Extracts the header and the first lines of the body (TOP) from a message in pieces."""

    def __init__(self, body_lines: int) -> None:
        self._lines_left = body_lines
        self._is_in_header = True
        self._tail = b"\n"  # as if a line had ended before the message
        self.is_full = False
        """Whether the output is complete, and the rest of the message is not needed."""

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
