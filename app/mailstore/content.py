"""The index data of a message, read from its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.mail.delta import Arrived, Rendered
from app.mail.types import BodyPart, MailboxId
from app.mime.enclosed import containers, opened_beginning
from app.mime.shown import preview_in
from app.mime.structure import parse_structure
from app.wire.imap import render

BEGINNING_BYTES = 16 * 1024
"""How much is read of a message that is too complex."""
HEAVY_HEADER_BYTES = 64 * 1024
"""Messages with a header of this size are parsed in another process."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A parsed message whose bytes are on disk, ready to be put into any mailbox."""

    blob: str
    arrived: Arrived


async def read_small(contents: Sequence[tuple[str, bytes]]) -> dict[str, StoredContent]:
    """Parse messages; return them by their hashes. Other tasks run in between."""
    stored = {}
    for blob, content in contents:
        stored[blob] = StoredContent(blob, read_content(content, blob))
        await asyncio.sleep(0)
    return stored


def weight_of(content: bytes) -> int:
    """Return the cost of parsing a message, in bytes of usual content.

    Header bytes count twice, delimiters 200 times. A hostile message of 64 KB has 13,000 parts, or 30,000 addresses.
    """
    end = content.find(b"\n\r\n", 0, HEAVY_HEADER_BYTES)
    end = content.find(b"\n\n", 0, HEAVY_HEADER_BYTES) if end < 0 else end
    header_bytes = min(len(content), HEAVY_HEADER_BYTES) if end < 0 else end
    return len(content) + header_bytes + 200 * content.count(b"\n--")


def read_content(content: bytes, blob: str) -> Arrived:
    """Return the index data of a message without a location. Never fails: unparsable data becomes a problem."""
    parsed = parse_structure(content)
    rendered = Rendered(parsed.header_block, render.envelope(parsed.envelope), render.structure(parsed.structure))
    return Arrived(
        MailboxId(""),
        0,
        frozenset(),
        0,
        len(content),
        parsed.overview,
        parsed.structure,
        preview=_preview(content, parsed.structure),
        blob=blob,
        problems=parsed.problems,
        rendered=rendered,
    )


def read_beginning(content: bytes, blob: str) -> Arrived:
    """Return the index data of a message that is too complex to parse whole, from its beginning."""
    arrived = read_content(content[:BEGINNING_BYTES], blob)
    problem = f"the message is too complex: only its first {BEGINNING_BYTES} bytes were read"
    return replace(arrived, size_bytes=len(content), problems=(*arrived.problems, problem))


def _preview(content: bytes, structure: BodyPart) -> str:
    """Return the beginning of the text that a reader would see first; "" if there is none."""

    def read(part: BodyPart, limit: int) -> bytes:
        _, start, stop = part.span or (0, 0, 0)
        return content[start : min(stop, start + limit)]

    preview = preview_in(structure, read)
    if preview or not containers(structure):
        return preview
    spans = {part.section: part.span or (0, 0, 0) for part in structure.walk()}
    inside = opened_beginning(structure, lambda section: content[spans[section][1] : spans[section][2]])
    if inside is None:
        return ""
    return preview_in(inside.structure, lambda part, limit: inside.contents.get(part.section, b"")[:limit])
