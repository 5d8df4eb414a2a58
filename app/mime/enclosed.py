"""Parts that other parts hold in a form of their own, made parts of the message.

These are winmail.dat, the words of a calendar, and what is inside an opaque S/MIME signature.

The new parts have sections below that of their container, and their content, which is not encoded, comes beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from app.mail.types import BodyPart
from app.mime.body import CALENDAR_TYPES, SMIME_TYPES, choose_body, decode_body
from app.mime.cms import signed_content
from app.mime.invitation import MAX_CALENDAR_BYTES, Invitation, invitation_text, read_invitation
from app.mime.names import attachment_name
from app.mime.structure import parse_structure
from app.mime.tnef import Tnef, TnefFile, read_tnef
from app.mime.transfer import decode_transfer

MAX_CONTAINER_BYTES = 16 * 1024 * 1024
"""Encoded size up to which a winmail.dat or a signed message is opened."""
MAX_PREVIEWED_BYTES = 1024 * 1024
MAX_CONTAINERS = 5
WORDLESS_BYTES = 4
"""Text parts up to this size hold no words, but a line end or two."""

_TNEF_TYPES = frozenset({"application/ms-tnef", "application/vnd.ms-tnef", "application/x-tnef"})
_TNEF_NAMES = frozenset({"winmail.dat", "win.dat"})


@dataclass(frozen=True, slots=True)
class Opened:
    """A structure with the parts that were found in its containers, and their content by section."""

    structure: BodyPart
    contents: Mapping[str, bytes] = field(default_factory=dict)


def containers(structure: BodyPart) -> tuple[BodyPart, ...]:
    """The parts that `opened` needs: each winmail.dat, what is signed, and the calendar of a message without text."""
    attached = (part for part in choose_body(structure).attachments if part.size_bytes <= MAX_CONTAINER_BYTES)
    found = [part for part in attached if _is_tnef(part) or part is _signed_of(structure)]
    calendar = calendar_of(structure)
    if calendar is not None and not _has_words(structure):
        found.append(calendar)
    return tuple(found[:MAX_CONTAINERS])


def calendar_of(structure: BodyPart) -> BodyPart | None:
    """The part that holds an invitation, None where there is none of a readable size."""
    parts = (part for part in choose_body(structure).attachments if part.media_type in CALENDAR_TYPES)
    return next((part for part in parts if part.size_bytes <= MAX_CALENDAR_BYTES), None)


def opened(structure: BodyPart, raw: Mapping[str, bytes]) -> Opened:
    """The message with the parts inside its containers, whose encoded bytes are given by section. Never raises."""
    contents: dict[str, bytes] = {}
    new: dict[str, BodyPart] = {}
    has_words = _has_words(structure)
    for part in containers(structure):
        content = raw.get(part.section)
        if content is None:
            continue
        if part.media_type in CALENDAR_TYPES:
            found = _calendar_words(part, content, contents)
        elif part.media_type in SMIME_TYPES:
            found = _signed_parts(part, content, contents)
        else:
            found = _tnef_parts(part, content, contents, has_words=has_words)
        if found is not None:
            new[part.section] = found
    return Opened(_replaced(structure, new), contents) if new else Opened(structure)


def opened_beginning(structure: BodyPart, read: Callable[[str], bytes]) -> Opened | None:
    """The same for a preview: only small containers are opened; None where there are none. `read` takes a section."""
    small = [part for part in containers(structure) if part.size_bytes <= MAX_PREVIEWED_BYTES]
    return opened(structure, {part.section: read(part.section) for part in small}) if small else None


def invitation_in(part: BodyPart, raw: bytes) -> Invitation | None:
    """The invitation in a calendar part's encoded bytes."""
    text, _ = decode_body(raw, part)
    return read_invitation(text)


def _is_tnef(part: BodyPart) -> bool:
    return part.media_type in _TNEF_TYPES or (
        part.media_type == "application/octet-stream" and (attachment_name(part) or "").lower() in _TNEF_NAMES
    )


def _signed_of(structure: BodyPart) -> BodyPart | None:
    """The message itself, where it may be inside its signature."""
    kind = (structure.param("smime-type") or "signed-data").lower()
    return structure if structure.media_type in SMIME_TYPES and kind == "signed-data" else None


def _has_words(structure: BodyPart) -> bool:
    texts = (part for part in choose_body(structure).text if part.media_type.startswith("text/"))
    return any(part.size_bytes > WORDLESS_BYTES for part in texts)


def _calendar_words(part: BodyPart, raw: bytes, contents: dict[str, bytes]) -> BodyPart | None:
    """The words of an event, and the calendar as an attachment."""
    invitation = invitation_in(part, raw)
    if invitation is None:
        return None
    words = _text_part(f"{part.section}.words", "text/plain", invitation_text(invitation), contents)
    return BodyPart(
        f"{part.section}.both", "multipart/mixed", children=(words, replace(part, disposition="attachment"))
    )


def _signed_parts(part: BodyPart, raw: bytes, contents: dict[str, bytes]) -> BodyPart | None:
    """What is signed, and the signature as an attachment."""
    content = signed_content(decode_transfer(raw, part.encoding)[0])
    if content is None:
        return None
    inside = _below(f"{part.section}.signed", parse_structure(content).structure, content, contents)
    return BodyPart(
        f"{part.section}.both", "multipart/mixed", children=(inside, replace(part, disposition="attachment"))
    )


def _below(prefix: str, part: BodyPart, content: bytes, contents: dict[str, bytes]) -> BodyPart:
    """A tree of decoded parts whose sections begin with `prefix`. Depth is bounded by the tree's."""
    section = f"{prefix}.{part.section}" if part.section else prefix
    if part.is_multipart:
        children = tuple(_below(prefix, child, content, contents) for child in part.children)
        return replace(part, section=section, children=children, span=None)
    _, start, end = part.span or (0, 0, 0)
    decoded = contents[section] = decode_transfer(content[start:end], part.encoding)[0]
    return replace(part, section=section, children=(), span=None, encoding="binary", size_bytes=len(decoded))


def _tnef_parts(part: BodyPart, raw: bytes, contents: dict[str, bytes], *, has_words: bool) -> BodyPart | None:
    found = read_tnef(decode_transfer(raw, part.encoding)[0])
    if found is None:
        return None
    texts = () if has_words else _tnef_texts(part, found, contents)
    files = tuple(_file_part(f"{part.section}.{number}", file, contents) for number, file in enumerate(found.files, 1))
    return BodyPart(part.section, "multipart/mixed", children=(*texts, *files)) if texts or files else None


def _tnef_texts(part: BodyPart, found: Tnef, contents: dict[str, bytes]) -> tuple[BodyPart, ...]:
    forms = (("text/plain", "text", found.text), ("text/html", "html", found.html))
    texts = tuple(_text_part(f"{part.section}.{name}", kind, text, contents) for kind, name, text in forms if text)
    if len(texts) < 2:
        return texts
    return (BodyPart(f"{part.section}.texts", "multipart/alternative", children=texts),)


def _text_part(section: str, media_type: str, text: str, contents: dict[str, bytes]) -> BodyPart:
    content = contents[section] = text.encode("utf-8", "replace")
    return BodyPart(section, media_type, (("charset", "utf-8"),), encoding="8bit", size_bytes=len(content))


def _file_part(section: str, file: TnefFile, contents: dict[str, bytes]) -> BodyPart:
    contents[section] = file.content
    return BodyPart(
        section,
        file.media_type if "/" in file.media_type else "application/octet-stream",
        content_id=f"<{file.content_id}>" if file.content_id else None,
        encoding="binary",
        size_bytes=len(file.content),
        disposition="attachment",
        disposition_params=(("filename", file.name),) if file.name else (),
    )


def _replaced(part: BodyPart, new: Mapping[str, BodyPart]) -> BodyPart:
    """The tree with the parts at these sections exchanged. Depth is bounded by the tree's."""
    if part.section in new and not part.is_multipart:
        return new[part.section]
    children = tuple(_replaced(child, new) for child in part.children)
    return replace(part, children=children) if children != part.children else part
