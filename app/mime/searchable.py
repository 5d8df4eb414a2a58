"""The text of a message that a search looks at, the same as Dovecot's SEARCH looks at (RFC 9051 §6.4.4).

TEXT: all header fields, those of parts and of attached messages too, and what BODY looks at: the text of parts of type
text and message, transfer encoding and charset undone, in the words of the source (HTML with its marks, format=flowed
with its line ends). Not: other parts, text outside of parts, parts in an encoding that is none.
Where a Content-Type cannot be read or an attached message lacks its header, BODY finds the text that readers show,
which Dovecot does not look at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.mail.searchable import OWN_HEADER_END, PART_END, Searchable, fold
from app.mail.types import BodyPart
from app.mime.body import choose_body
from app.mime.charset import decode_damaged, is_ascii
from app.mime.enclosed import opened_beginning
from app.mime.encodings import codec_of
from app.mime.shown import readable_parts, words_of
from app.mime.structure import parse_structure
from app.mime.text import is_blank
from app.mime.transfer import decode_transfer
from app.mime.words import spelled_out

PARTS_LIMIT = 1_000
"""Parts of one message that are looked at."""
SHOWN_CHARS = 32 * 1024

_ENCODINGS = frozenset({"7bit", "8bit", "binary", "quoted-printable", "base64", ""})
_FOLDED_BY_TAB = re.compile(rb"\r?\n\t")
_FOLD = re.compile(rb"\r?\n(?= )")
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f]")


@dataclass(frozen=True, slots=True)
class Place:
    """A part, the IMAP section of its header (RFC 9051 §6.4.5), and whether its words are looked at."""

    part: BodyPart
    header_section: str
    is_searched: bool


def searchable_in(content: bytes) -> Searchable:
    """The text of a whole message. Never raises; linear."""
    spans: dict[str, tuple[int, int]] = {}
    structure = parse_structure(content).structure
    for place in places_of(structure):
        if place.part.span is not None:
            start, body_start, end = place.part.span
            spans[place.header_section] = (start, body_start)
            spans[place.part.section] = (body_start, end)
    return searchable_of(structure, lambda section: content[slice(*spans.get(section, (0, 0)))])


def searchable_of(structure: BodyPart, read: Callable[[str], bytes]) -> Searchable:
    """The same of a message whose sections `read` gives: those of headers, and those of parts that are searched."""
    places = places_of(structure)
    headers = [header_lines(read(place.header_section)) for place in places]
    bodies = [text_of_part(read(place.part.section), place.part) + PART_END for place in places if place.is_searched]
    own, others = "".join(headers[:1]), "".join(headers[1:])
    shown = shown_of(structure, read)
    return Searchable(fold(f"\n{own}{OWN_HEADER_END}\n{others}"), fold("".join(bodies)), shown)


def searchable_in_all(contents: Mapping[int, bytes]) -> dict[int, Searchable]:
    """The text of several whole messages, by the same keys."""
    return {key: searchable_in(content) for key, content in contents.items()}


def searchable_in_parts(structure: BodyPart, parts: Mapping[str, bytes]) -> Searchable:
    """The same as `searchable_of`, of sections by their names; one that is missing is empty."""
    return searchable_of(structure, lambda section: parts.get(section, b""))


def own_header(block: bytes) -> str:
    """The `header` of a Searchable of which only the message's own header is known."""
    return fold(f"\n{header_lines(block)}{OWN_HEADER_END}")


def places_of(structure: BodyPart) -> list[Place]:
    """The first PARTS_LIMIT parts of a message, in order."""
    found: list[Place] = []
    waiting: list[tuple[BodyPart, BodyPart | None]] = [(structure, None)]
    while waiting and len(found) < PARTS_LIMIT:
        part, parent = waiting.pop()
        found.append(Place(part, _header_section(part, parent), _is_searched(part, parent)))
        waiting.extend((child, part) for child in reversed(part.children))
    return found


def _header_section(part: BodyPart, parent: BodyPart | None) -> str:
    if parent is None:
        return "HEADER"
    return f"{parent.section}.HEADER" if parent.media_type == "message/rfc822" else f"{part.section}.MIME"


def _is_searched(part: BodyPart, parent: BodyPart | None) -> bool:
    kind = part.media_type
    is_text = kind.startswith(("text/", "message/")) and kind != "message/rfc822" and part.encoding in _ENCODINGS
    return is_text and not _is_made_up(part, parent)


def _is_made_up(part: BodyPart, parent: BodyPart | None) -> bool:
    """Whether a part only stands for those that its multipart lacks."""
    if parent is None or not parent.is_multipart or parent.span is None or part.span is None:
        return False
    return part.span[0] == parent.span[1]


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
    text = decode_damaged(decoded, codec)
    return text.replace("\r\n", "\n").replace("\f", "\v").replace("\x00", "\ufffd")


def shown_of(structure: BodyPart, read: Callable[[str], bytes]) -> str:
    """The first SHOWN_CHARS of what a reader sees, in winmail.dat or a calendar where there is nothing else."""
    shown = _shown(structure, read)
    inside = opened_beginning(structure, read) if is_blank(shown) else None
    return shown if inside is None else _shown(inside.structure, lambda section: inside.contents.get(section, b""))


def _shown(structure: BodyPart, read: Callable[[str], bytes]) -> str:
    pieces: list[str] = []
    left = SHOWN_CHARS

    def words(part: BodyPart) -> str:
        return words_of(part, read(part.section)[: 4 * SHOWN_CHARS]) if left > 0 else ""

    for _, text in readable_parts(choose_body(structure), words):
        pieces.append(text[:left])
        left -= len(pieces[-1])
        if left <= 0:
            break
    return "\n".join(pieces)
