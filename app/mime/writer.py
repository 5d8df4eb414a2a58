"""Writing of header fields and MIME parts: encoding, folding and boundaries. Callers validate the values.

It replaces the standard library's writer: it never folds inside a Message-ID, never lets a line end into a header, and
writes attachments piece by piece instead of buffering them.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from app.mail.types import Address

LINE_CHARS = 76
MAX_LINE_BYTES = 998
"""RFC 5322 §2.1.1, without CRLF."""
_WORD_BYTES = 45
"""UTF-8 bytes in one encoded-word: 60 characters of base64, 72 in all, of the 75 that RFC 2047 allows."""
_BLOCK_BYTES = 57 * 1024
_MAX_BARE_TOKEN_CHARS = 900

_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_NEEDS_WORDS = re.compile(rf"[^\x20-\x7e]|  |=\?|[^ ]{{{_MAX_BARE_TOKEN_CHARS},}}")
_ATTR_CHARS = "!#$&+-.^_`|~"

Content = bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """A part to write: header fields except Content-Transfer-Encoding, and content or children."""

    fields: tuple[str, ...]
    encoding: str = "7bit"
    content: Content = b""
    subtype: str = ""
    children: tuple[Part, ...] = ()


def unstructured(name: str, text: str) -> str:
    """A folded field of free text, with encoded-words if it needs them."""
    text = text.replace("\t", " ").strip()
    words = encoded_words(text) if _NEEDS_WORDS.search(text) else text.split(" ")
    return f"{name}: {_folded(words, len(name) + 2)}"


def addresses(name: str, listed: Sequence[Address]) -> str:
    """A folded field of addresses."""
    return f"{name}: {_folded(_address_words(listed), len(name) + 2)}"


def message_ids(name: str, ids: Sequence[str]) -> str:
    """A field of message ids, folded only between ids."""
    return f"{name}: {_folded(list(ids), len(name) + 2)}"


def parameter(name: str, value: str) -> str:
    """`; name="value"` on a new line; in RFC 2231 encoding if the value is not short ASCII."""
    if value.isascii() and value.isprintable() and len(value) <= LINE_CHARS:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n {name}="{escaped}"'
    return f";\r\n {name}*=utf-8''{quote(value, safe=_ATTR_CHARS)}"


def encoded_words(text: str) -> list[str]:
    """Encode a text as RFC 2047 words, without splitting a character over two words."""
    words: list[str] = []
    piece = b""
    for char in text:
        raw = char.encode()
        if len(piece) + len(raw) > _WORD_BYTES:
            words.append(_encoded_word(piece))
            piece = b""
        piece += raw
    words.append(_encoded_word(piece))
    return words


def text_part(subtype: str, text: str) -> Part:
    """A text part: 7bit if possible, base64 for text with many non-ASCII characters, else quoted-printable."""
    raw = "\r\n".join(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")).encode("utf-8", "replace")
    charset = "us-ascii" if raw.isascii() else "utf-8"
    fields = (f"Content-Type: text/{subtype}; charset={charset}",)
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    if raw.isascii() and b"\x00" not in raw and all(len(line) <= MAX_LINE_BYTES for line in raw.split(b"\r\n")):
        return Part(fields, "7bit", raw)
    if len(raw) - len(text) > len(raw) // 4:
        return Part(fields, "base64", raw)
    return Part(fields, "quoted-printable", binascii.b2a_qp(raw, istext=True))


def multipart(subtype: str, children: Sequence[Part]) -> Part:
    """A multipart of these parts. Its boundary is made when it is written."""
    encoding = "8bit" if any(child.encoding == "8bit" for child in children) else "7bit"
    return Part((), encoding, subtype=subtype, children=tuple(children))


def write_part(part: Part, seed: str) -> Iterator[bytes]:
    """A part's fields, blank line and content, in pieces. `seed` makes the boundary, which no author can predict."""
    if not part.children:
        fields = (*part.fields, f"Content-Transfer-Encoding: {part.encoding}")
        yield "".join(f"{line}\r\n" for line in fields).encode() + b"\r\n"
        yield from _encoded(part)
        return
    boundary = f"=_{seed}"  # "=_" occurs neither in base64 nor in quoted-printable
    yield f'Content-Type: multipart/{part.subtype};\r\n boundary="{boundary}"\r\n'.encode()
    yield f"Content-Transfer-Encoding: {part.encoding}\r\n\r\n".encode()
    for index, child in enumerate(part.children):
        yield f"--{boundary}\r\n".encode()
        yield from write_part(child, f"{seed}.{index}")
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _encoded(part: Part) -> Iterator[bytes]:
    pieces = (part.content,) if isinstance(part.content, bytes) else part.content
    yield from _base64_lines(pieces) if part.encoding == "base64" else pieces


def _base64_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    pending = bytearray()
    for piece in pieces:
        pending += piece
        whole = len(pending) - len(pending) % _BLOCK_BYTES
        if whole:
            yield _base64_block(bytes(pending[:whole]))
            del pending[:whole]
    if pending:
        yield _base64_block(bytes(pending))


def _base64_block(raw: bytes) -> bytes:
    encoded = binascii.b2a_base64(raw, newline=False)
    lines = [encoded[start : start + LINE_CHARS] for start in range(0, len(encoded), LINE_CHARS)]
    return b"\r\n".join((*lines, b""))


def _encoded_word(raw: bytes) -> str:
    return f"=?utf-8?B?{binascii.b2a_base64(raw, newline=False).decode('ascii')}?="


def _address_words(listed: Sequence[Address]) -> list[str]:
    words: list[str] = []
    for address in listed:
        if address.name:
            words += _name_words(address.name)
            words.append(f"<{address.address}>,")
        else:
            words.append(f"{address.address},")
    if words:
        words[-1] = words[-1][:-1]
    return words


def _name_words(name: str) -> list[str]:
    name = name.replace("\t", " ").strip()
    if _NEEDS_WORDS.search(name):
        return encoded_words(name)
    if _PLAIN_NAME.fullmatch(name):
        return name.split(" ")
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'.split(" ")


def _folded(words: list[str], used_chars: int) -> str:
    """Join words by spaces, and fold before a word that would exceed LINE_CHARS."""
    lines: list[list[str]] = [[]]
    for word in words:
        if lines[-1] and used_chars + len(word) > LINE_CHARS:
            lines.append([])
            used_chars = 1
        lines[-1].append(word)
        used_chars += len(word) + 1
    return "\r\n ".join(" ".join(line) for line in lines)
