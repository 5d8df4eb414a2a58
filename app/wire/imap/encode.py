"""Encoding of arguments for a client's commands (RFC 9051 §4).

All text from callers passes through this module. It cannot end an argument: text is quoted or sent as a literal, and
CR, LF and NUL are refused. A value that ends in `{5}` or `{5+}` is quoted, and so announces no literal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from app.errors import InvalidRequest
from app.wire.imap.names import wire_of
from app.wire.imap.sets import SequenceSet

MAX_STRING_BYTES = 65_536
NO_PLUS, LITERAL_MINUS, LITERAL_PLUS = 0, 4_096, 2**63 - 1
"""The largest literal that is sent without waiting for `+`: none, with LITERAL-, with LITERAL+ (RFC 7888)."""

_ATOM = re.compile(r'[^\x00-\x20\x7f-\U0010ffff(){%*"\\\]]+')
_FLAG = re.compile(r'\\?[^\x00-\x20\x7f-\U0010ffff(){%*"\\\]]+')


@dataclass(frozen=True, slots=True, repr=False)
class Literal:
    """A literal argument. Without `data`, the caller sends `size_bytes` bytes itself in its place."""

    size_bytes: int
    data: bytes | None = None
    is_binary: bool = False

    def mark(self, non_sync_limit: int) -> bytes:
        """The marker `{n}`, or `{n+}` if the literal may be sent without waiting for `+`."""
        plus = b"+" if self.size_bytes <= non_sync_limit else b""
        return b"%b{%d%b}\r\n" % (b"~" if self.is_binary else b"", self.size_bytes, plus)


Argument = bytes | Literal | Sequence["Argument"]
"""Encoded bytes, a literal, or a parenthesised list of arguments."""

Segment = tuple[bytes | Literal, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Command:
    """A command without its tag. `parts` alternate bytes and literals. Only `name` may be logged.

    `uids` are the messages whose flags the response may contain. Flags of other messages are unsolicited changes.
    """

    name: str
    parts: tuple[bytes | Literal, ...]
    uids: SequenceSet = field(default_factory=SequenceSet)

    def __repr__(self) -> str:
        return f"Command({self.name})"

    def segments(self, tag: bytes, non_sync_limit: int = NO_PLUS) -> list[Segment]:
        """The bytes to send: the first segment at once, each further segment after a `+` from the server.

        A segment contains only literals without data; the caller sends their bytes in their place.
        """
        segments: list[Segment] = []
        sending: list[bytes | Literal] = [tag + b" "]
        for part in self.parts:
            if isinstance(part, bytes):
                sending.append(part)
                continue
            sending.append(part.mark(non_sync_limit))
            if part.size_bytes > non_sync_limit:
                segments.append(_merged(sending))
                sending = []
            sending.append(part if part.data is None else part.data)
        segments.append(_merged([*sending, b"\r\n"]))
        return segments


def _merged(pieces: Iterable[bytes | Literal]) -> Segment:
    """Join adjacent bytes."""
    groups = groupby(pieces, lambda piece: isinstance(piece, bytes))
    merged: list[bytes | Literal] = []
    for is_bytes, group in groups:
        run = list(group)
        merged += [b"".join(piece for piece in run if isinstance(piece, bytes))] if is_bytes else run
    return tuple(merged)


def command(name: str, *arguments: Argument) -> Command:
    """A command with these arguments, separated by spaces."""
    pieces: list[bytes | Literal] = [name.encode("ascii")]
    for argument in arguments:
        pieces.append(b" ")
        _write(argument, pieces)
    return Command(name, _merged(pieces))


def _write(argument: Argument, pieces: list[bytes | Literal]) -> None:
    if isinstance(argument, bytes | Literal):
        pieces.append(argument)
        return
    pieces.append(b"(")
    for index, item in enumerate(argument):
        if index:
            pieces.append(b" ")
        _write(item, pieces)
    pieces.append(b")")


def atom(text: str) -> bytes:
    """Encode a word of the protocol or of an extension. Raises InvalidRequest."""
    if not _ATOM.fullmatch(text):
        raise InvalidRequest("A word contains characters that IMAP does not allow")
    return text.encode("ascii")


def flag(text: str) -> bytes:
    """Encode a system flag or a keyword. Raises InvalidRequest."""
    if not _FLAG.fullmatch(text) or len(text) > 255:
        raise InvalidRequest("A keyword must be printable ASCII without spaces, quotes, brackets, %, * and \\")
    return text.encode("ascii")


def number(value: int) -> bytes:
    """Encode a number of 63 bits (RFC 9051 §9, number64). Raises InvalidRequest if it is out of range."""
    if not 0 <= value < 2**63:
        raise InvalidRequest("A number is out of range")
    return b"%d" % value


def string(text: str, *, is_utf8: bool = False) -> bytes | Literal:
    """Encode text: quoted if it is ASCII or after ENABLE UTF8=ACCEPT (RFC 6855), else as a literal.

    Raises InvalidRequest for CR, LF, NUL, lone surrogates, or more than `MAX_STRING_BYTES`.
    """
    if any(char in text for char in "\r\n\x00"):
        raise InvalidRequest("Text for the mail server must not contain line breaks or NUL")
    data = _utf8(text)
    if len(data) > MAX_STRING_BYTES:
        raise InvalidRequest(f"Text for the mail server is limited to {MAX_STRING_BYTES} bytes")
    if text.isascii() or is_utf8:
        return b'"%b"' % data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return Literal(len(data), data)


def mailbox(name: str, *, is_utf8: bool = False) -> bytes | Literal:
    """Encode a mailbox name (see `names.known_as`) in modified UTF-7; in UTF-8 after ENABLE UTF8=ACCEPT or IMAP4rev2.

    Raises InvalidRequest for an empty name, CR, LF, NUL, lone surrogates or more than `MAX_STRING_BYTES`.
    """
    if not name:
        raise InvalidRequest("A mailbox name must not be empty")
    return _mailbox_text(name, is_utf8)


def pattern(text: str, *, is_utf8: bool = False) -> bytes | Literal:
    """Encode a LIST pattern or reference: a mailbox name with the wildcards `*` and `%`, possibly empty."""
    return _mailbox_text(text, is_utf8)


def _mailbox_text(name: str, is_utf8: bool) -> bytes | Literal:
    if any(char in name for char in "\r\n\x00"):
        raise InvalidRequest("A mailbox name must not contain line breaks or NUL")
    _utf8(name)
    wire = wire_of(name, is_utf8=is_utf8)
    try:
        return string(wire.decode("utf-8"), is_utf8=is_utf8)
    except UnicodeDecodeError:
        return Literal(len(wire), wire)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest("Text contains an incomplete character (a lone surrogate)") from error
