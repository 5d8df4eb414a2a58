"""The words of a message that a reader sees, wherever they are: the source of previews and of the plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from app.mail.types import BodyPart
from app.mime.body import BodyChoice, choose_body, decode_body
from app.mime.text import is_blank, preview_of, text_of_html

PARTS_LIMIT = 20
"""Parts of one message that are looked at for a preview."""
WINDOW_BYTES = 16 * 1024
"""How much of a part is read first."""
WIDE_WINDOW_BYTES = 256 * 1024
"""How much is read of an HTML part whose beginning has no words: style sheets of newsletters are long."""

Words = Callable[[BodyPart], str]
"""The readable text of a text part."""


def readable_parts(choice: BodyChoice, words: Words) -> Iterator[tuple[BodyPart, str]]:
    """Text parts in the order to show them, with their words; in the place of an empty one, what stands in for it."""
    for part in choice.text:
        if not part.media_type.startswith("text/"):
            continue
        text = words(part)
        instead = choice.stand_ins.get(part.section, ()) if is_blank(text) else ()
        found = [(other, words(other)) for other in instead if other.media_type.startswith("text/")]
        yield from found or [(part, text)]


def preview_in(structure: BodyPart, read: Callable[[BodyPart, int], bytes]) -> str:
    """The preview of a message; `read` gives at most so many encoded bytes of a part. Bounded."""
    looked_at = 0

    def words(part: BodyPart) -> str:
        nonlocal looked_at
        looked_at += 1
        return beginning_of(part, read) if looked_at <= PARTS_LIMIT else ""

    previews = (preview_of(text) for _, text in readable_parts(choose_body(structure), words))
    return next((preview for preview in previews if preview), "")


def beginning_of(part: BodyPart, read: Callable[[BodyPart, int], bytes]) -> str:
    """The first words of a text part."""
    text = words_of(part, read(part, WINDOW_BYTES))
    if part.media_type == "text/html" and part.size_bytes > WINDOW_BYTES and is_blank(text):
        return words_of(part, read(part, WIDE_WINDOW_BYTES))
    return text


def words_of(part: BodyPart, raw: bytes) -> str:
    """A text part's encoded bytes as a reader sees them."""
    text, _ = decode_body(raw, part)
    return text_of_html(text) if part.media_type == "text/html" else text
