"""The searchable text of a message, as Dovecot's SEARCH defines it (RFC 9051 §6.4.4).

BODY covers the parts of type text and message, with transfer encoding and charset decoded. It searches the source
text: HTML with its tags, format=flowed with its line ends. It does not cover other parts, text outside of parts, or
parts with an unknown transfer encoding.
TEXT covers BODY and all header fields, including those of parts and of attached messages.
Unlike Dovecot, BODY also covers the text that mail programs display if a Content-Type cannot be read or an attached
message lacks its header.
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
"""Parts of one message that are searched."""
SHOWN_CHARS = 32 * 1024
"""Characters of the displayed text that are searched."""

_ENCODINGS = frozenset({"7bit", "8bit", "binary", "quoted-printable", "base64", ""})
_FOLDED_BY_TAB = re.compile(rb"\r?\n\t")
_FOLD = re.compile(rb"\r?\n(?= )")
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f]")


@dataclass(frozen=True, slots=True)
class Place:
    """A part, the IMAP section of its header (RFC 9051 §6.4.5), and whether its body is searched."""

    part: BodyPart
    header_section: str
    is_searched: bool


def searchable_in(content: bytes) -> Searchable:
    """The searchable text of a whole message. Never raises; linear."""
    spans: dict[str, tuple[int, int]] = {}
    structure = parse_structure(content).structure
    for place in places_of(structure):
        if place.part.span is not None:
            start, body_start, end = place.part.span
            spans[place.header_section] = (start, body_start)
            spans[place.part.section] = (body_start, end)
    return searchable_of(structure, lambda section: content[slice(*spans.get(section, (0, 0)))])


def searchable_of(structure: BodyPart, read: Callable[[str], bytes]) -> Searchable:
    """The searchable text of a message whose sections come from `read`: sections of headers and of searched parts."""
    places = places_of(structure)
    headers = [header_lines(read(place.header_section)) for place in places]
    bodies = [text_of_part(read(place.part.section), place.part) + PART_END for place in places if place.is_searched]
    own, others = "".join(headers[:1]), "".join(headers[1:])
    displayed = shown_of(structure, read)
    return Searchable(fold(f"\n{own}{OWN_HEADER_END}\n{others}"), fold("".join(bodies)), displayed)


def searchable_in_all(contents: Mapping[int, bytes]) -> dict[int, Searchable]:
    """The searchable texts of several whole messages, by the same keys."""
    return {key: searchable_in(content) for key, content in contents.items()}


def searchable_in_parts(structure: BodyPart, parts: Mapping[str, bytes]) -> Searchable:
    """Like `searchable_of`, with the sections in a mapping. A missing section counts as empty."""
    return searchable_of(structure, lambda section: parts.get(section, b""))


def own_header(block: bytes) -> str:
    """The `header` of a Searchable, built from the message's own header alone."""
    return fold(f"\n{header_lines(block)}{OWN_HEADER_END}")


def places_of(structure: BodyPart) -> list[Place]:
    """The first PARTS_LIMIT parts of a message, in order."""
    places: list[Place] = []
    waiting: list[tuple[BodyPart, BodyPart | None]] = [(structure, None)]
    while waiting and len(places) < PARTS_LIMIT:
        part, parent = waiting.pop()
        places.append(Place(part, _header_section(part, parent), _is_searched(part, parent)))
        waiting.extend((child, part) for child in reversed(part.children))
    return places


def _header_section(part: BodyPart, parent: BodyPart | None) -> str:
    if parent is None:
        return "HEADER"
    return f"{parent.section}.HEADER" if parent.media_type == "message/rfc822" else f"{part.section}.MIME"


def _is_searched(part: BodyPart, parent: BodyPart | None) -> bool:
    kind = part.media_type
    is_text = kind.startswith(("text/", "message/")) and kind != "message/rfc822" and part.encoding in _ENCODINGS
    return is_text and not _is_made_up(part, parent)


def _is_made_up(part: BodyPart, parent: BodyPart | None) -> bool:
    """Whether the parser made up a part because its multipart has none."""
    if parent is None or not parent.is_multipart or parent.span is None or part.span is None:
        return False
    return part.span[0] == parent.span[1]


def header_lines(block: bytes) -> str:
    """A header block with one field per line, unfolded and with encoded-words decoded."""
    flat = _FOLD.sub(b"", _FOLDED_BY_TAB.sub(b" ", block))
    lines = (line.rstrip(b"\r").decode("utf-8", "surrogateescape") for line in flat.split(b"\n"))
    return "".join(_CONTROLS.sub("\ufffd", spelled_out(line)) + "\n" for line in lines if line)


def text_of_part(raw: bytes, part: BodyPart) -> str:
    """The source text of a text part: transfer encoding and charset decoded, nothing else."""
    decoded, _ = decode_transfer(raw, part.encoding)
    label = part.param("charset") or ""
    codec = (None if is_ascii(label) else codec_of(label)) or "utf-8"
    text = decode_damaged(decoded, codec)
    return text.replace("\r\n", "\n").replace("\f", "\v").replace("\x00", "\ufffd")


def shown_of(structure: BodyPart, read: Callable[[str], bytes]) -> str:
    """The first SHOWN_CHARS of the displayed text; if there is none, of the text in winmail.dat or a calendar."""
    displayed = _displayed(structure, read)
    opened = opened_beginning(structure, read) if is_blank(displayed) else None
    if opened is None:
        return displayed
    return _displayed(opened.structure, lambda section: opened.contents.get(section, b""))


def _displayed(structure: BodyPart, read: Callable[[str], bytes]) -> str:
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
