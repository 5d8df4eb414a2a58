"""The text of a message that a search looks at, the same as Dovecot's SEARCH looks at (RFC 9051 §6.4.4).

TEXT: all header fields, those of parts and of attached messages too, and what BODY looks at: the text of parts of type
text and message, transfer encoding and charset undone, in the words of the source (HTML with its marks, format=flowed
with its line ends). Not: other parts, text outside of parts, parts in an encoding that is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.mail.searchable import OWN_HEADER_END, PART_END, Searchable, fold
from app.mail.types import BodyPart
from app.mime.body import choose_body, decode_body
from app.mime.charset import codec_of, is_ascii
from app.mime.structure import parse_structure
from app.mime.text import text_of_html
from app.mime.transfer import decode_transfer
from app.mime.words import spelled_out

PARTS_LIMIT = 1_000
"""Parts of one message that are looked at."""
SHOWN_CHARS = 32 * 1024

_ENCODINGS = frozenset({"7bit", "8bit", "binary", "quoted-printable", "base64", ""})
_FOLDED_BY_TAB = re.compile(rb"\r?\n\t")
_FOLD = re.compile(rb"\r?\n(?= )")
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f]")


def searchable_in(content: bytes) -> Searchable:
    """The text of a whole message. Never raises; linear."""
    return searchable_of(content, parse_structure(content).structure)


def own_header(block: bytes) -> str:
    """The `header` of a Searchable of which only the message's own header is known."""
    return fold(f"\n{header_lines(block)}{OWN_HEADER_END}")


def searchable_of(content: bytes, structure: BodyPart) -> Searchable:
    """The same where the structure, with its spans, is known."""
    headers, bodies = [], []
    for number, (part, is_made_up) in enumerate(_parts(structure)):
        if number >= PARTS_LIMIT or part.span is None:
            break
        start, body_start, end = part.span
        headers.append(header_lines(content[start:body_start]))
        if is_searched(part) and not is_made_up:
            bodies.append(text_of_part(content[body_start:end], part))
    own, others = "".join(headers[:1]), "".join(headers[1:])
    return Searchable(
        fold(f"\n{own}{OWN_HEADER_END}\n{others}"),
        fold("".join(one + PART_END for one in bodies)),
        shown_of(content, structure),
    )


def is_searched(part: BodyPart) -> bool:
    """Whether the words of a part are looked at."""
    kind = part.media_type
    is_text = kind.startswith(("text/", "message/")) and kind != "message/rfc822"
    return is_text and part.encoding in _ENCODINGS


def header_lines(block: bytes) -> str:
    """A header block with one field a line, folds and encoded-words undone."""
    flat = _FOLD.sub(b"", _FOLDED_BY_TAB.sub(b" ", block))
    lines = (line.rstrip(b"\r").decode("utf-8", "surrogateescape") for line in flat.split(b"\n"))
    return "".join(_CONTROLS.sub("\ufffd", spelled_out(line)) + "\n" for line in lines if line)


def text_of_part(raw: bytes, part: BodyPart) -> str:
    """A text part as it is written, its transfer encoding and charset undone."""
    decoded, _ = decode_transfer(raw, part.encoding)
    label = part.param("charset") or ""
    codec = (None if is_ascii(label) else codec_of(label)) or "utf-8"
    try:
        text = decoded.decode(codec, "replace")
    except (UnicodeError, ValueError):
        text = decoded.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\f", "\v").replace("\x00", "\ufffd")


def shown_of(content: bytes, structure: BodyPart) -> str:
    """The first SHOWN_CHARS of what a reader sees."""
    pieces: list[str] = []
    left = SHOWN_CHARS
    for part in choose_body(structure).text:
        if left <= 0 or part.span is None or not part.media_type.startswith("text/"):
            continue
        _, start, stop = part.span
        text, _ = decode_body(content[start : min(stop, start + 4 * SHOWN_CHARS)], part)
        pieces.append((text_of_html(text) if part.media_type == "text/html" else text)[:left])
        left -= len(pieces[-1])
    return "\n".join(pieces)


def _parts(structure: BodyPart) -> Iterator[tuple[BodyPart, bool]]:
    """Every part, and whether it only stands for the parts that a multipart lacks."""
    made_up: set[int] = set()
    for part in structure.walk():
        if part.is_multipart and part.span is not None:
            made_up |= {id(one) for one in part.children if one.span is not None and one.span[0] == part.span[1]}
        yield part, id(part) in made_up
