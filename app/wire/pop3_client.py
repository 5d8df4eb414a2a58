"""The client side of POP3 (RFC 1939, RFC 2449): parsing of replies, encoding of commands. No I/O.

Every reply is bounded, and parsing is linear for any split of the stream.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import InvalidRequest, ServerProtocolError, TooLarge
from app.wire.lines import LineBuffer

LINE_LIMIT_BYTES = 8 * 1024
"""The longest status line or line of a list, with its end. RFC 2449 §4 allows 512; a SASL challenge may be longer."""
LIST_LIMIT_LINES = 300_000
LIST_LIMIT_BYTES = 32 * 1024 * 1024
UIDL_LIMIT_CHARS = 255
"""RFC 1939 §7 allows 70."""
_END = b"\r\n.\r\n"
_CODE = re.compile(r"\[([A-Za-z0-9/._-]{1,40})\]\s?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_TEXT_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Pop3Status:
    """The first line of a reply. `code` is the extended response code in capitals ("IN-USE", RFC 2449 §8).

    `text` is one line without control characters. `is_challenge`: the server waits for a SASL response (RFC 5034).
    """

    is_ok: bool
    text: str = ""
    code: str | None = None
    is_challenge: bool = False


@dataclass(frozen=True, slots=True)
class Pop3Capabilities:
    """The response to CAPA (RFC 2449 §5): the arguments of each capability by its name, both in upper case."""

    arguments: dict[str, tuple[str, ...]]

    def __contains__(self, name: str) -> bool:
        return name in self.arguments

    @property
    def mechanisms(self) -> tuple[str, ...]:
        return self.arguments.get("SASL", ())

    @property
    def login_delay_seconds(self) -> int:
        """The minimum time between two logins (RFC 2449 §6.5); 0 if the server names none."""
        value = next(iter(self.arguments.get("LOGIN-DELAY", ())), "0")
        return min(int(value), 86_400) if value.isascii() and value.isdigit() and len(value) < 10 else 0

    def names(self) -> list[str]:
        """Each capability with its arguments, sorted."""
        return sorted(" ".join((name, *words)) for name, words in self.arguments.items())


NO_CAPABILITIES = Pop3Capabilities({})


class ReplyReader:
    """A reader of replies from a stream.

    Call `status` first; then, for a multi-line reply, `lines` or `piece` until it reports the end. All of them raise
    ServerProtocolError for invalid input.
    """

    def __init__(self) -> None:
        self._buffer = LineBuffer(LINE_LIMIT_BYTES)
        self._content: _Unstuffer | None = None
        self._line_count = 0
        self._list_bytes = 0

    def feed(self, data: bytes) -> None:
        self._buffer.feed(data)

    def __len__(self) -> int:
        """The number of buffered bytes."""
        return len(self._buffer)

    def status(self) -> Pop3Status | None:
        """The next status line; None until it is complete."""
        line = self._line()
        return None if line is None else parse_status(line)

    def lines(self) -> tuple[list[bytes], bool]:
        """The complete lines of a list, without their ends, and whether the list has ended."""
        lines: list[bytes] = []
        while (line := self._line()) is not None:
            text = line.rstrip(b"\r\n")
            if text == b".":
                self._line_count = self._list_bytes = 0
                return lines, True
            self._line_count += 1
            self._list_bytes += len(line)
            if self._line_count > LIST_LIMIT_LINES or self._list_bytes > LIST_LIMIT_BYTES:
                raise ServerProtocolError("The mail server's list is too long")
            lines.append(text[1:] if text.startswith(b".") else text)
        return lines, False

    def piece(self) -> tuple[bytes, bool]:
        """The buffered part of a message, unstuffed, and whether the message has ended. Only CRLF "." CRLF ends it."""
        if self._content is None:
            self._content = _Unstuffer()
        content, rest = self._content.feed(self._buffer.take())
        if rest is None:
            return content, False
        self._content = None
        self._buffer.feed(rest)
        return content, True

    def _line(self) -> bytes | None:
        try:
            return self._buffer.line()
        except TooLarge:
            raise ServerProtocolError("A line from the mail server is too long") from None


class _Unstuffer:
    """Removes dot-stuffing from a multi-line reply that arrives in pieces of any size (RFC 1939 §3)."""

    def __init__(self) -> None:
        self._pending = b"\r\n"  # as if a line had ended before the reply
        self._has_begun = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The content that is certain so far, and the bytes after its end, or None before the end."""
        window = self._pending + data
        end = window.find(_END)
        if end >= 0:
            return self._unstuffed(window[: end + 2]), window[end + len(_END) :]
        cut = _safe_cut(window)
        self._pending = window[cut:]
        return self._unstuffed(window[:cut]), None

    def _unstuffed(self, window: bytes) -> bytes:
        if not window:
            return b""
        content = window.replace(b"\r\n.", b"\r\n")
        if not self._has_begun:
            self._has_begun = True
            return content[2:]
        return content


def _safe_cut(window: bytes) -> int:
    """Where to cut the window without splitting the end marker or a stuffed dot."""
    cut = max(0, len(window) - len(_END) + 1)
    for begun in (b"\r\n.", b"\r\n", b"\r"):
        if window.endswith(begun, 0, cut):
            return cut - len(begun)
    return cut


def parse_status(line: bytes) -> Pop3Status:
    """Parse a status line. Raises ServerProtocolError."""
    text = _CONTROLS.sub(" ", line.decode("utf-8", "replace")).strip()
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    if word == "+":
        return Pop3Status(is_ok=True, text=rest, is_challenge=True)
    if word.upper() not in ("+OK", "-ERR"):
        raise ServerProtocolError("The mail server's response is not POP3")
    match = _CODE.match(rest)
    code = match[1].upper() if match else None
    return Pop3Status(word.upper() == "+OK", rest[:_TEXT_LIMIT], code)


def parse_capabilities(lines: Iterable[bytes]) -> Pop3Capabilities:
    """Parse the lines of a CAPA response."""
    arguments: dict[str, tuple[str, ...]] = {}
    for line in lines:
        name, *words = line.decode("ascii", "replace").upper().split() or [""]
        if name:
            arguments[name] = tuple(words)
    return Pop3Capabilities(arguments)


def parse_sizes(lines: Iterable[bytes]) -> dict[int, int]:
    """Parse the lines of LIST: message number → size in bytes, 0 for an invalid size.

    Text after the size is ignored (RFC 1939 §5). A line without a number is skipped.
    """
    sizes: dict[int, int] = {}
    for line in lines:
        words = line.split()
        number = _number(words[0]) if words else None
        if number is not None:
            sizes[number] = (_number(words[1]) if len(words) > 1 else None) or 0
    return sizes


def parse_uidls(lines: Iterable[bytes]) -> dict[int, str]:
    """Parse the lines of UIDL: message number → unique id. A line without both is skipped."""
    uidls: dict[int, str] = {}
    for line in lines:
        word, _, uidl = line.strip().partition(b" ")
        number, text = _number(word), uidl.strip().decode("latin-1")
        if number is None or not text:
            continue
        if len(text) > UIDL_LIMIT_CHARS or not text.isprintable():  # RFC 1939 §7 allows neither
            text = "~" + hashlib.sha256(uidl).hexdigest()
        uidls[number] = text
    return uidls


def _number(word: bytes) -> int | None:
    return int(word) if word.isdigit() and len(word) <= 18 else None


def command(verb: str, *arguments: str | int) -> bytes:
    """Encode a command line. Raises InvalidRequest for a line end in an argument: it would begin another command."""
    text = " ".join((verb, *map(str, arguments)))
    if any(character in text for character in "\r\n\0"):
        raise InvalidRequest("A user name or password must not contain control characters")
    return text.encode() + b"\r\n"
