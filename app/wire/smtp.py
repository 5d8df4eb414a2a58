"""SMTP syntax (RFC 5321, 1870, 6531, 3030, 3461): commands, addresses, replies, and message data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.errors import InvalidRequest, MalformedRequest

LINE_LIMIT_BYTES = 12 * 1024
"""The longest command: AUTH with an initial response (RFC 4954 §4), and its line end."""
PATH_LIMIT_BYTES = 320
_END = b"\r\n.\r\n"

# Groups repeat without a possessive `+`: Python 3.11.2 (Debian 12) may end such a group inside a failed repetition.
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\U0010ffff]"
_DOT_ATOM = rf"{_ATEXT}++(?:\.{_ATEXT}++)*"
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u00a1-\U0010ffff]|\\[\x20-\x7e])*"'
_LABEL = r"[A-Za-z0-9_\u00a1-\U0010ffff](?:[A-Za-z0-9_\-\u00a1-\U0010ffff]*+)"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[A-Za-z0-9.:]{1,64}\]"
_ROUTE = rf"(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
_PATH = re.compile(rf"<{_ROUTE}((?:{_DOT_ATOM}|{_QUOTED})@(?:{_DOMAIN}|{_LITERAL}))>")
_POSTMASTER = re.compile(r"<(postmaster)>", re.IGNORECASE)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9\-]*+)(?:=([\x21-\x3c\x3e-\x7e]++))?")
_HELO = re.compile(r"[A-Za-z0-9_.:\-\[\]]{1,255}")


class Refused(Exception):
    """A refused request. `reply` is the 4xx or 5xx reply."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class SmtpCommand:
    """A command line: `verb` in upper case, and the text after it."""

    verb: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Path:
    """The path of MAIL FROM or RCPT TO. `address` is "" for the null sender; parameters are by upper-case name."""

    address: str
    parameters: Mapping[str, str | None] = field(default_factory=dict)


def parse_command(line: bytes) -> SmtpCommand:
    """Parse a line with its CRLF. Raises MalformedRequest, also for control characters."""
    if not line.endswith(b"\r\n"):
        raise MalformedRequest("A line must end with CRLF")
    try:
        text = line[:-2].decode()
    except UnicodeDecodeError:
        raise MalformedRequest("The command is not valid UTF-8") from None
    if any(character < " " or character == "\x7f" for character in text):
        raise MalformedRequest("The command contains a control character")
    verb, _, argument = text.partition(" ")
    return SmtpCommand(verb.upper(), argument.strip(" "))


def parse_path(argument: str, keyword: str) -> Path:
    """Parse a path such as `FROM:<ann@demo.test> SIZE=100`; `keyword` is FROM or TO. Raises MalformedRequest.

    A space after the colon is accepted, as every server does.
    """
    head, colon, rest = argument.partition(":")
    if not colon or head.strip(" ").upper() != keyword:
        raise MalformedRequest(f"{keyword}:<address> is expected")
    rest = rest.lstrip(" ")
    if keyword == "FROM" and rest.startswith("<>"):
        address, end = "", 2
    else:
        match = _PATH.match(rest) or (_POSTMASTER.match(rest) if keyword == "TO" else None)
        if match is None:
            raise MalformedRequest("Invalid address: an address in angle brackets is required")
        address, end = _checked_length(match[1]), match.end()
    return Path(address, _parameters(rest[end:]))


def _checked_length(address: str) -> str:
    local, _, domain = address.rpartition("@")
    if len(address.encode()) > PATH_LIMIT_BYTES or len(local.encode()) > 64 or len(domain) > 255:
        raise MalformedRequest("The address is too long")
    return address


def _parameters(text: str) -> dict[str, str | None]:
    if text and not text.startswith(" "):
        raise MalformedRequest("A space is expected after the address")
    parameters: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in parameters:
            raise MalformedRequest("Invalid parameters")
        parameters[match[1].upper()] = match[2]
    return parameters


def plain_address(address: str) -> str:
    """The form of an address by which accounts are looked up: in lower case, without unnecessary quotes."""
    local, _, domain = address.rpartition("@")
    if local.startswith('"'):
        inner = re.sub(r"\\(.)", r"\1", local[1:-1])
        local = inner if re.fullmatch(_DOT_ATOM, inner) else local
    return f"{local}@{domain}".lower()


def is_helo_name(name: str) -> bool:
    """Whether a HELO argument has the form of a domain or an address literal."""
    return _HELO.fullmatch(name) is not None


def reply(code: int, enhanced: str, text: str) -> bytes:
    """A reply with an enhanced status code (RFC 2034)."""
    return f"{code} {enhanced} {text}\r\n".encode("ascii", "replace")


def reply_lines(code: int, lines: Sequence[str]) -> bytes:
    """A reply of one or more lines, without enhanced codes."""
    texts = [f"{code}-{line}\r\n" for line in lines[:-1]] + [f"{code} {lines[-1]}\r\n"]
    return "".join(texts).encode("ascii", "replace")


class DotReader:
    """Reads and unstuffs the message after DATA. Only CRLF . CRLF ends it (RFC 5321 §4.1.1.4).

    A bare CR or LF is not a line end and makes the message invalid (`has_bare_line_end`). The bytes after it still
    belong to the message, up to CRLF . CRLF, so that they cannot contain commands (SMTP smuggling).
    """

    def __init__(self) -> None:
        self._pending = b"\r\n"  # as if a line had ended before the message
        self._skip = 2
        self.has_bare_line_end = False
        self.rest: bytes | None = None
        """The bytes after the end of the message; None before the end."""

    def feed(self, data: bytes) -> bytes:
        """The further content that is certain now. Linear for any split of the stream."""
        buffer = self._pending + data
        end = buffer.find(_END)
        if end >= 0:
            self.rest = buffer[end + len(_END) :]
            return self._clean(buffer[: end + 2])
        cut = max(0, len(buffer) - len(_END) + 1)
        if buffer.endswith(b"\r\n", 0, cut):  # the next byte may be a dot
            cut -= 2
        elif buffer.endswith(b"\r", 0, cut):
            cut -= 1
        self._pending = buffer[cut:]
        return self._clean(buffer[:cut])

    def _clean(self, content: bytes) -> bytes:
        if has_bare_line_end(content):
            self.has_bare_line_end = True
        content = content.replace(b"\r\n.", b"\r\n")
        if self._skip and content:
            content, self._skip = content[self._skip :], 0
        return content


class ChunkReader:
    """Checks the line ends of a message that arrives by BDAT (RFC 3030), in pieces."""

    def __init__(self) -> None:
        self._is_after_cr = False
        self.has_bare_line_end = False
        self.is_line_ended = True

    def feed(self, data: bytes) -> None:
        if not data:
            return
        text = b"\r" + data if self._is_after_cr else data
        self._is_after_cr = text.endswith(b"\r")
        if has_bare_line_end(text[:-1] if self._is_after_cr else text):
            self.has_bare_line_end = True
        self.is_line_ended = text.endswith(b"\r\n")

    def finish(self) -> bytes:
        """The line end that the last line lacks."""
        if self._is_after_cr:
            self.has_bare_line_end = True
        return b"" if self.is_line_ended else b"\r\n"


def has_bare_line_end(content: bytes) -> bool:
    """Whether `content` has a CR or LF that is not part of CRLF."""
    pairs = content.count(b"\r\n")
    return content.count(b"\r") != pairs or content.count(b"\n") != pairs


def dot_stuffed(content: bytes) -> bytes:
    """Encode a message for DATA, with the end marker. Raises InvalidRequest for a bare CR or LF."""
    if has_bare_line_end(content):
        raise InvalidRequest("A message must have CRLF line ends only")
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n.\r\n")
