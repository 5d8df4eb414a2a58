"""Contents of container parts as parts of the message: winmail.dat, calendars and opaque S/MIME signatures.

The sections of the new parts are below the section of their container. Their contents are decoded and returned
separately, by section.
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
"""Largest encoded size of a winmail.dat or a signed message that is opened."""
MAX_PREVIEWED_BYTES = 1024 * 1024
"""Largest encoded size of a container that is opened for a preview."""
MAX_CONTAINERS = 5
WORDLESS_BYTES = 4
"""Text parts up to this size hold only line ends."""

_TNEF_TYPES = frozenset({"application/ms-tnef", "application/vnd.ms-tnef", "application/x-tnef"})
_TNEF_NAMES = frozenset({"winmail.dat", "win.dat"})


@dataclass(frozen=True, slots=True)
class OpenedContainer:
    """A structure that includes the parts of its containers, and their contents by section."""

    structure: BodyPart
    contents: Mapping[str, bytes] = field(default_factory=dict)


def containers(structure: BodyPart) -> tuple[BodyPart, ...]:
    """The parts that `opened` needs: each winmail.dat, a signed message, and the calendar of a message without text."""
    attached = (part for part in choose_body(structure).attachments if part.size_bytes <= MAX_CONTAINER_BYTES)
    parts = [part for part in attached if _is_tnef(part) or part is _signed_of(structure)]
    calendar = calendar_of(structure)
    if calendar is not None and not _has_words(structure):
        parts.append(calendar)
    return tuple(parts[:MAX_CONTAINERS])


def calendar_of(structure: BodyPart) -> BodyPart | None:
    """The first calendar part of a readable size, or None."""
    parts = (part for part in choose_body(structure).attachments if part.media_type in CALENDAR_TYPES)
    return next((part for part in parts if part.size_bytes <= MAX_CALENDAR_BYTES), None)


def opened(structure: BodyPart, raw: Mapping[str, bytes]) -> OpenedContainer:
    """Open a message's containers. `raw` has their encoded bytes by section; missing ones stay closed. Never raises."""
    contents: dict[str, bytes] = {}
    replacements: dict[str, BodyPart] = {}
    has_words = _has_words(structure)
    for part in containers(structure):
        content = raw.get(part.section)
        if content is None:
            continue
        if part.media_type in CALENDAR_TYPES:
            replacement = _calendar_words(part, content, contents)
        elif part.media_type in SMIME_TYPES:
            replacement = _signed_parts(part, content, contents)
        else:
            replacement = _tnef_parts(part, content, contents, has_words=has_words)
        if replacement is not None:
            replacements[part.section] = replacement
    return OpenedContainer(_replaced(structure, replacements), contents) if replacements else OpenedContainer(structure)


def opened_beginning(structure: BodyPart, read: Callable[[str], bytes]) -> OpenedContainer | None:
    """Open the small containers for a preview; None if there are none. `read` takes a section, returns its bytes."""
    small = [part for part in containers(structure) if part.size_bytes <= MAX_PREVIEWED_BYTES]
    return opened(structure, {part.section: read(part.section) for part in small}) if small else None


def invitation_in(part: BodyPart, raw: bytes) -> Invitation | None:
    """The invitation in the encoded bytes of a calendar part, or None."""
    text, _ = decode_body(raw, part)
    return read_invitation(text)


def _is_tnef(part: BodyPart) -> bool:
    return part.media_type in _TNEF_TYPES or (
        part.media_type == "application/octet-stream" and (attachment_name(part) or "").lower() in _TNEF_NAMES
    )


def _signed_of(structure: BodyPart) -> BodyPart | None:
    """The root part, if it is an opaque S/MIME signature that may contain the message."""
    kind = (structure.param("smime-type") or "signed-data").lower()
    return structure if structure.media_type in SMIME_TYPES and kind == "signed-data" else None


def _has_words(structure: BodyPart) -> bool:
    texts = (part for part in choose_body(structure).text if part.media_type.startswith("text/"))
    return any(part.size_bytes > WORDLESS_BYTES for part in texts)


def _calendar_words(part: BodyPart, raw: bytes, contents: dict[str, bytes]) -> BodyPart | None:
    """A part with the text of an event, and the calendar as an attachment."""
    invitation = invitation_in(part, raw)
    if invitation is None:
        return None
    words = _text_part(f"{part.section}.words", "text/plain", invitation_text(invitation), contents)
    return BodyPart(
        f"{part.section}.both", "multipart/mixed", children=(words, replace(part, disposition="attachment"))
    )


def _signed_parts(part: BodyPart, raw: bytes, contents: dict[str, bytes]) -> BodyPart | None:
    """A part with the signed content, and the signature as an attachment."""
    content = signed_content(decode_transfer(raw, part.encoding)[0])
    if content is None:
        return None
    inside = _below(f"{part.section}.signed", parse_structure(content).structure, content, contents)
    return BodyPart(
        f"{part.section}.both", "multipart/mixed", children=(inside, replace(part, disposition="attachment"))
    )


def _below(prefix: str, part: BodyPart, content: bytes, contents: dict[str, bytes]) -> BodyPart:
    """A tree of decoded parts whose sections begin with `prefix`. Recursion is bounded by the tree's depth."""
    section = f"{prefix}.{part.section}" if part.section else prefix
    if part.is_multipart:
        children = tuple(_below(prefix, child, content, contents) for child in part.children)
        return replace(part, section=section, children=children, span=None)
    _, start, end = part.span or (0, 0, 0)
    decoded = contents[section] = decode_transfer(content[start:end], part.encoding)[0]
    return replace(part, section=section, children=(), span=None, encoding="binary", size_bytes=len(decoded))


def _tnef_parts(part: BodyPart, raw: bytes, contents: dict[str, bytes], *, has_words: bool) -> BodyPart | None:
    tnef = read_tnef(decode_transfer(raw, part.encoding)[0])
    if tnef is None:
        return None
    texts = () if has_words else _tnef_texts(part, tnef, contents)
    files = tuple(_file_part(f"{part.section}.{number}", file, contents) for number, file in enumerate(tnef.files, 1))
    return BodyPart(part.section, "multipart/mixed", children=(*texts, *files)) if texts or files else None


def _tnef_texts(part: BodyPart, tnef: Tnef, contents: dict[str, bytes]) -> tuple[BodyPart, ...]:
    forms = (("text/plain", "text", tnef.text), ("text/html", "html", tnef.html))
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


def _replaced(part: BodyPart, replacements: Mapping[str, BodyPart]) -> BodyPart:
    """The tree with the parts at these sections replaced. Recursion is bounded by the tree's depth."""
    if part.section in replacements and not part.is_multipart:
        return replacements[part.section]
    children = tuple(_replaced(child, replacements) for child in part.children)
    return replace(part, children=children) if children != part.children else part
