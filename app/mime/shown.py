"""The displayed text of a message, from which previews and the plain text are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from app.mail.types import BodyPart
from app.mime.body import BodyChoice, choose_body, decode_body
from app.mime.text import is_blank, preview_of, text_of_html

PARTS_LIMIT = 20
"""Parts of one message that are read for a preview."""
WINDOW_BYTES = 16 * 1024
"""Bytes of a part that are read first."""
WIDE_WINDOW_BYTES = 256 * 1024
"""Bytes that are read of an HTML part that begins without text: newsletters have long style sheets."""

Words = Callable[[BodyPart], str]
"""Returns the readable text of a text part."""


def readable_parts(choice: BodyChoice, words: Words) -> Iterator[tuple[BodyPart, str]]:
    """Text parts with their text, in display order. Stand-ins replace an empty part of an alternative."""
    for part in choice.text:
        if not part.media_type.startswith("text/"):
            continue
        text = words(part)
        stand_ins = choice.stand_ins.get(part.section, ()) if is_blank(text) else ()
        replacements = [(other, words(other)) for other in stand_ins if other.media_type.startswith("text/")]
        yield from replacements or [(part, text)]


def preview_in(structure: BodyPart, read: Callable[[BodyPart, int], bytes]) -> str:
    """The preview of a message. `read` takes a part and the number of encoded bytes to read. Bounded."""
    parts_read = 0

    def words(part: BodyPart) -> str:
        nonlocal parts_read
        parts_read += 1
        return beginning_of(part, read) if parts_read <= PARTS_LIMIT else ""

    previews = (preview_of(text) for _, text in readable_parts(choose_body(structure), words))
    return next((preview for preview in previews if preview), "")


def beginning_of(part: BodyPart, read: Callable[[BodyPart, int], bytes]) -> str:
    """The first words of a text part."""
    text = words_of(part, read(part, WINDOW_BYTES))
    if part.media_type == "text/html" and part.size_bytes > WINDOW_BYTES and is_blank(text):
        return words_of(part, read(part, WIDE_WINDOW_BYTES))
    return text


def words_of(part: BodyPart, raw: bytes) -> str:
    """Return the readable text of a text part's encoded bytes."""
    text, _ = decode_body(raw, part)
    return text_of_html(text) if part.media_type == "text/html" else text
