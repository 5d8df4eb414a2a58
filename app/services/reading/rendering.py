"""Renders a message: text and sanitised HTML from its parts, and the list of attachments. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

from app.mail.types import BodyPart
from app.mime.body import BodyChoice, choose_body, decode_body, protections_of
from app.mime.names import attachment_name, content_id_of, media_type_of
from app.mime.sanitise import Look, ResolveCid, boxed, sanitise_html, text_as_html
from app.mime.shown import readable_parts
from app.mime.text import is_blank, text_of_html
from app.mime.transfer import decode_transfer

TEXT_PART_LIMIT_BYTES = 4 * 1024 * 1024
"""How much of one text part is shown."""
TEXT_LIMIT_BYTES = 8 * 1024 * 1024
"""How much of all text parts of a message is shown."""
TEXT_PARTS_LIMIT = 100
ATTACHMENTS_LIMIT = 1_000
"""How many attachments of a message are listed."""
PLAIN_LIMIT_BYTES = 64 * 1024
"""How much is shown of each part, and of all parts, of a message that is too complex."""
TOO_COMPLEX = "the message is too complex to show: this is the beginning of its text"

EMPTY_HTML_CHARS = 4_000

PLAIN_LOOK = Look()

CidUrls = Mapping[str, str]
"""Content-ID without brackets → URL."""

_PICTURE_TYPES = {
    **{f"image/{name}": f"image/{name}" for name in ("png", "jpeg", "gif", "webp", "bmp")},
    **dict.fromkeys(("image/jpg", "image/pjpeg", "image/jpe", "image/jfif"), "image/jpeg"),
    **dict.fromkeys(("image/x-png", "image/apng"), "image/png"),
    **dict.fromkeys(("image/x-bmp", "image/x-ms-bmp"), "image/bmp"),
    **dict.fromkeys(("image/x-icon", "image/ico", "image/vnd.microsoft.icon"), "image/x-icon"),
}
"""Image types as senders name them → the names that browsers know."""
_TAG = re.compile(r"<[^<>]*+>")
_ID_CHARS = 24


@dataclass(frozen=True, slots=True)
class Body:
    """The readable body. `html` is None if the message has none; `problems` describes errors for people."""

    text: str
    html: str | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of a message: `inside` with their encoded bytes, to put into the HTML, and the URLs of all."""

    inside: Sequence[tuple[BodyPart, bytes]]
    urls: CidUrls

    @property
    def size_bytes(self) -> int:
        return sum(len(raw) for _, raw in self.inside)


@dataclass(frozen=True, slots=True)
class TextParts:
    """The text parts to read, in order, and the problems of those left out because of a limit."""

    parts: tuple[BodyPart, ...]
    problems: tuple[str, ...]


def text_parts(structure: BodyPart) -> TextParts:
    """Return the parts whose bytes are needed to show a message, within the limits."""
    choice = choose_body(structure)
    wanted: dict[str, BodyPart] = {}
    problems: list[str] = []
    total = 0
    for part in (*choice.text, *choice.html):
        if not part.media_type.startswith("text/") or part.section in wanted:
            continue
        size = min(part.size_bytes, TEXT_PART_LIMIT_BYTES)
        if len(wanted) >= TEXT_PARTS_LIMIT or total + size > TEXT_LIMIT_BYTES:
            problems.append(f"part {part.section} and later parts: not shown, the message has too much text")
            break
        if size < part.size_bytes:
            problems.append(f"part {part.section}: only its first {size} bytes are shown")
        wanted[part.section] = part
        total += size
    return TextParts(tuple(wanted.values()), tuple(problems))


def render_body(
    structure: BodyPart, contents: Mapping[str, bytes], cid_urls: CidUrls | None, look: Look = PLAIN_LOOK
) -> Body:
    """Return the body from its encoded text parts by section; a missing part is left out."""
    resolve_cid = None if cid_urls is None else cid_urls.get
    choice = choose_body(structure)
    problems: list[str] = []
    texts: dict[str, str] = {}
    for part in {item.section: item for item in (*choice.text, *choice.html)}.values():
        if part.section in contents:
            texts[part.section], found = decode_body(contents[part.section], part)
            problems += found
    problems += [f"the message is {protection.value.replace('_', ' ')}" for protection in protections_of(structure)]
    html, found = _html(choice, texts, resolve_cid, look)
    return Body(_text(choice, texts), html, (*problems, *found))


def render_with_pictures(structure: BodyPart, contents: Mapping[str, bytes], pictures: Pictures, look: Look) -> Body:
    """Like `render_body`, with some pictures inside the HTML, and the others by their URLs."""
    inside = {key: url for key, url in map(_data_url, pictures.inside) if key}
    return render_body(structure, contents, {**pictures.urls, **inside}, look)


def _data_url(picture: tuple[BodyPart, bytes]) -> tuple[str | None, str]:
    part, raw = picture
    media_type = picture_type(part)
    content = base64.b64encode(decode_transfer(raw, part.encoding)[0]).decode()
    return content_id_of(part), f"data:{media_type};base64,{content}"


def plain_body(structure: BodyPart, contents: Mapping[str, bytes]) -> Body:
    """Return the beginning of a body as text, at little cost, for a body that is too complex to render."""
    texts: list[str] = []
    for part in choose_body(structure).text:
        if part.section in contents:
            text, _ = decode_body(contents[part.section][:PLAIN_LIMIT_BYTES], part)
            texts.append(unescape(_TAG.sub(" ", text)) if part.media_type == "text/html" else text)
    text = "\n".join(texts)[:PLAIN_LIMIT_BYTES]
    return Body(f"[{TOO_COMPLEX}]\n\n{text}", None, (TOO_COMPLEX,))


def _text(choice: BodyChoice, texts: Mapping[str, str]) -> str:
    def words(part: BodyPart) -> str:
        text = texts.get(part.section, "")
        return text_of_html(text) if part.media_type == "text/html" else text

    return "\n".join(text for part, text in readable_parts(choice, words) if part.section in texts)


def _html(
    choice: BodyChoice, texts: Mapping[str, str], resolve_cid: ResolveCid | None, look: Look
) -> tuple[str | None, tuple[str, ...]]:
    """Return the HTML, None without an HTML part, and the problems of what was left out.

    Each part is sanitised separately, so that parts cannot affect each other.
    """
    parts = [part for part in choice.html if part.section in texts]
    if not any(part.media_type == "text/html" for part in parts):
        return None, ()
    pieces, problems = [], []
    for part in parts:
        if part.media_type != "text/html":
            pieces.append(text_as_html(texts[part.section], look.quotes))
            continue
        instead = choice.stand_ins.get(part.section, ())
        if instead and _is_empty(texts[part.section]):
            pieces += [text_as_html(texts[other.section], look.quotes) for other in instead if other.section in texts]
            continue
        safe = sanitise_html(
            texts[part.section],
            images=look.images,
            resolve_cid=resolve_cid,
            quotes=look.quotes,
            image_mark=look.image_mark,
        )
        pieces.append(safe.html)
        problems += [f"part {part.section}: {problem}" for problem in safe.problems]
    return boxed("".join(pieces)), tuple(problems)


def _is_empty(html: str) -> bool:
    """Whether an HTML document shows neither words nor pictures. Only short documents are examined."""
    return len(html) <= EMPTY_HTML_CHARS and "<img" not in html.lower() and is_blank(text_of_html(html))


# ---- attachments


def attachment_parts(structure: BodyPart) -> list[BodyPart]:
    """Return attachments, and pictures and other files shown between texts, in the message's order."""
    choice = choose_body(structure)
    shown = [part for part in (*choice.text, *choice.html) if not part.media_type.startswith("text/")]
    wanted = {part.section for part in (*choice.attachments, *shown)}
    return [part for part in structure.walk() if part.section in wanted][:ATTACHMENTS_LIMIT]


def picture_type(part: BodyPart) -> str | None:
    """Return the type of a picture that browsers show, by its media type or else its name; None for other parts."""
    known = _PICTURE_TYPES.get(part.media_type)
    if known is None and part.media_type in ("application/octet-stream", "image/octet-stream"):
        extension = (attachment_name(part) or "").rpartition(".")[2].lower()
        known = _PICTURE_TYPES.get(f"image/{extension}")
    return known


def attachment_id(message_id: str, section: str) -> str:
    """Return the id of an attachment, which never changes and is unique to this message."""
    digest = hashlib.sha256(f"{message_id} {section}".encode()).digest()
    return "att_" + base64.b32encode(digest).decode().lower()[:_ID_CHARS]


def attachment_object(message_id: str, part: BodyPart, size_bytes: int | None) -> dict[str, Any]:
    """Return an attachment as the API shows it; `size_bytes` is None if only reading it would tell."""
    disposition = part.disposition if part.disposition in ("inline", "attachment") else None
    return {
        "id": attachment_id(message_id, part.section),
        "part": part.section,
        "filename": attachment_name(part),
        "content_type": media_type_of(part),
        "size_bytes": size_bytes,
        "disposition": disposition or ("inline" if part.content_id else "attachment"),
        "content_id": content_id_of(part),
    }


def cid_urls(parts: Iterable[BodyPart], url_of: Callable[[BodyPart], str | None]) -> dict[str, str]:
    """Return Content-ID → URL of the part that has it."""
    pairs = ((content_id_of(part), url_of(part)) for part in parts)
    return {content_id: url for content_id, url in pairs if content_id is not None and url is not None}
