"""What of a message is shown, and what is attached (RFC 8621 §4.1.4), chosen from its structure alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.mail.types import BodyPart
from app.mime.charset import decode
from app.mime.names import attachment_name, content_id_of
from app.mime.part import OPAQUE
from app.mime.text import unflowed
from app.mime.transfer import decode_transfer

_SEEN_TYPES = ("image/", "audio/", "video/")
_SIGNATURES = frozenset({"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"})
CALENDAR_TYPES = frozenset({"text/calendar", "application/ics", "text/x-vcalendar"})
_NO_PROSE = CALENDAR_TYPES | {
    f"text/{name}" for name in ("css", "directory", "javascript", "rtf", "vcard", "x-vcard", "xml")
}
"""Kinds of text that are for programs."""
SMIME_TYPES = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,5}=\s{0,5}[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_LINE_ENDS = re.compile(r"\r*+\n|\r(?!\r*+\n)")
"""An encoded CR before a line end (`=0D` and CRLF) belongs to it."""
_META_WINDOW_BYTES = 4096


@dataclass(frozen=True, slots=True)
class BodyChoice:
    """Parts in the order to show them. `text` may hold html parts where a message has no plain text, and vice versa.

    `stand_ins`: by the section of a part of a multipart/alternative, the parts to show where it has no words.
    """

    text: tuple[BodyPart, ...] = ()
    html: tuple[BodyPart, ...] = ()
    attachments: tuple[BodyPart, ...] = ()
    stand_ins: Mapping[str, tuple[BodyPart, ...]] = field(default_factory=dict)


class Protection(StrEnum):
    """How a message, or a part of it, is signed or encrypted end to end. Named, not verified."""

    PGP_SIGNED = "pgp_signed"
    PGP_ENCRYPTED = "pgp_encrypted"
    SMIME_SIGNED = "smime_signed"
    SMIME_ENCRYPTED = "smime_encrypted"


@dataclass(slots=True)
class _Choice:
    """The lists while they are filled; one that is closed takes nothing more in the present alternative."""

    text: list[BodyPart] = field(default_factory=list)
    html: list[BodyPart] = field(default_factory=list)
    attachments: list[BodyPart] = field(default_factory=list)
    stand_ins: dict[str, tuple[BodyPart, ...]] = field(default_factory=dict)


def choose_body(structure: BodyPart) -> BodyChoice:
    """Text parts, html parts and attachments of a message. An attached message is one attachment, never looked into."""
    choice = _Choice()
    _choose([structure], "mixed", choice, is_text_open=True, is_html_open=True, is_in_alternative=False)
    if not any(part.media_type.startswith("text/") for part in (*choice.text, *choice.html)):
        _show_other_text(choice)
    return BodyChoice(tuple(choice.text), tuple(choice.html), tuple(choice.attachments), choice.stand_ins)


def sections_to_fetch(structure: BodyPart) -> tuple[str, ...]:
    """The sections whose bytes are needed to show the message: its text parts, each once, in order."""
    choice = choose_body(structure)
    parts = {part.section: part for part in (*choice.text, *choice.html)}
    return tuple(section for section, part in parts.items() if part.media_type.startswith("text/"))


def has_attachments(structure: BodyPart) -> bool:
    """Whether there is an attachment in a reader's eyes.

    Neither a signature, nor an image that the text shows, nor the calendar of an invitation, unless it is a file.
    """
    choice = choose_body(structure)
    is_html_shown = any(part.media_type == "text/html" for part in choice.html)
    pictures = (part for part in choice.html if part.media_type.startswith(_SEEN_TYPES))
    return any(
        not (part.media_type in _SIGNATURES or _is_invitation(part) or (is_html_shown and _is_shown_image(part)))
        for part in (*choice.attachments, *pictures)
    )


def part_at(structure: BodyPart, section: str) -> BodyPart | None:
    """The part with this section number, None where there is none."""
    return next((part for part in structure.walk() if part.section == section), None)


def protections_of(structure: BodyPart) -> tuple[Protection, ...]:
    """The kinds of signature and encryption among a message's parts, each once (RFC 3156, RFC 8551)."""
    found = (_protection(part) for part in structure.walk())
    return tuple(dict.fromkeys(kind for kind in found if kind is not None))


def decode_body(raw: bytes, part: BodyPart) -> tuple[str, tuple[str, ...]]:
    """A text part's text from its encoded bytes, line ends as "\\n", and what was wrong with it, for people."""
    decoded, is_damaged = decode_transfer(raw, part.encoding)
    found = decode(decoded, _charset_label(decoded, part))
    problems = []
    if is_damaged:
        problems.append(f"part {part.section}: its {part.encoding} is damaged")
    if found.is_guess:
        problems.append(f"part {part.section}: its charset is a guess ({found.charset})")
    if found.is_damaged:
        problems.append(f"part {part.section}: it is not all {found.charset}, some characters are lost")
    text = found.text.removeprefix("\ufeff").replace("\x00", "")
    if "\r" in text:
        text = _LINE_ENDS.sub("\n", text)
    if (part.param("format") or "").lower() == "flowed":
        text = unflowed(text, delete_space=(part.param("delsp") or "").lower() == "yes")
    return text, tuple(problems)


def _is_invitation(part: BodyPart) -> bool:
    return part.media_type in CALENDAR_TYPES and part.disposition != "attachment" and attachment_name(part) is None


def _is_shown_image(part: BodyPart) -> bool:
    """Gmail gives every attachment a Content-ID, so the disposition counts too."""
    return part.media_type.startswith("image/") and part.content_id is not None and part.disposition != "attachment"


def _charset_label(decoded: bytes, part: BodyPart) -> str | None:
    """The label in Content-Type, else the html's own. us-ascii is what servers say where there is none."""
    label = part.param("charset") or part.param("charset*")
    if part.media_type == "text/html" and (label is None or label.lower() == "us-ascii"):
        return meta_charset(decoded) or label
    return label


def meta_charset(html: bytes) -> str | None:
    """The charset that an HTML document names for itself, None where it names none."""
    found = _META_CHARSET.search(html[:_META_WINDOW_BYTES])
    return found[1].decode("ascii") if found else None


def _protection(part: BodyPart) -> Protection | None:
    if part.media_type == "multipart/encrypted":
        return Protection.PGP_ENCRYPTED
    if part.media_type == "multipart/signed":
        protocol = (part.param("protocol") or "").lower()
        signature = protocol or (part.children[1].media_type if len(part.children) > 1 else "")
        return Protection.PGP_SIGNED if signature == "application/pgp-signature" else Protection.SMIME_SIGNED
    if part.media_type in SMIME_TYPES or (part.media_type == OPAQUE and (attachment_name(part) or "").endswith(".p7m")):
        is_signed = (part.param("smime-type") or "").lower() == "signed-data"
        return Protection.SMIME_SIGNED if is_signed else Protection.SMIME_ENCRYPTED
    return None


def _choose(
    parts: list[BodyPart] | tuple[BodyPart, ...],
    kind: str,
    choice: _Choice,
    *,
    start: str = "",
    is_text_open: bool,
    is_html_open: bool,
    is_in_alternative: bool,
) -> None:
    """One level of a multipart; `kind` is its subtype, `start` names its root. Depth is bounded by the tree's."""
    text_before, html_before = len(choice.text), len(choice.html)
    root = _root_of(parts, start) if kind == "related" else 0
    for index, part in enumerate(parts):
        if part.is_multipart:
            subtype = part.media_type.partition("/")[2]
            _choose(
                part.children,
                subtype,
                choice,
                start=part.param("start") or "",
                is_text_open=is_text_open,
                is_html_open=is_html_open,
                is_in_alternative=is_in_alternative or subtype == "alternative",
            )
        elif not _is_inline(part, kind, is_root=index == root):
            if not (kind == "alternative" and _is_other_form(part)):
                choice.attachments.append(part)
        elif kind == "alternative":
            _choose_alternative(part, choice)
        else:
            if is_in_alternative:
                is_html_open = is_html_open and part.media_type != "text/plain"
                is_text_open = is_text_open and part.media_type != "text/html"
            _show(part, choice, is_text_open=is_text_open, is_html_open=is_html_open)
    if kind == "alternative" and is_text_open and is_html_open:
        _fill_missing(choice, text_before, html_before)


def _root_of(parts: Sequence[BodyPart], start: str) -> int:
    """The index of the part of a multipart/related that shows the others (RFC 2387 §3.2)."""
    wanted = start.strip("<> ")
    named = (index for index, part in enumerate(parts) if wanted and content_id_of(part) == wanted)
    texts = (index for index, part in enumerate(parts) if part.is_multipart or part.media_type.startswith("text/"))
    return next(named, next(texts, 0))


def _is_inline(part: BodyPart, kind: str, *, is_root: bool) -> bool:
    """Whether a part is body rather than attachment."""
    is_seen = part.media_type.startswith(_SEEN_TYPES)
    if part.disposition == "attachment" or not (is_seen or part.media_type in ("text/plain", "text/html")):
        return False
    return is_root or (kind != "related" and (is_seen or attachment_name(part) is None))


def _choose_alternative(part: BodyPart, choice: _Choice) -> None:
    if part.media_type == "text/plain":
        choice.text.append(part)
    elif part.media_type == "text/html":
        choice.html.append(part)
    else:
        choice.attachments.append(part)


def _is_other_form(part: BodyPart) -> bool:
    """Whether a part of an alternative says the same words for other programs, as AMP and enriched text do."""
    is_text = part.media_type.startswith("text/") and part.media_type != "text/calendar"
    return is_text and part.disposition != "attachment" and attachment_name(part) is None


def _show(part: BodyPart, choice: _Choice, *, is_text_open: bool, is_html_open: bool) -> None:
    if is_text_open:
        choice.text.append(part)
    if is_html_open:
        choice.html.append(part)
    if not (is_text_open and is_html_open) and part.media_type.startswith(_SEEN_TYPES):
        choice.attachments.append(part)


def _fill_missing(choice: _Choice, text_before: int, html_before: int) -> None:
    """An alternative of one kind alone serves for both."""
    has_text, has_html = len(choice.text) > text_before, len(choice.html) > html_before
    if has_html and not has_text:
        choice.text.extend(choice.html[html_before:])
    elif has_text and not has_html:
        choice.html.extend(choice.text[text_before:])
    elif has_text:
        _let_stand_in(choice, choice.text[text_before:], choice.html[html_before:])


def _show_other_text(choice: _Choice) -> None:
    """Show text of another kind as plain text in a message that has no usual one (RFC 2046 §4.1.4)."""
    others = (part for part in choice.attachments if part.media_type.startswith("text/"))
    for part in others:
        if part.media_type not in _NO_PROSE and part.disposition != "attachment" and attachment_name(part) is None:
            choice.attachments.remove(part)
            choice.text.append(part)
            choice.html.append(part)
            return


def _let_stand_in(choice: _Choice, texts: list[BodyPart], htmls: list[BodyPart]) -> None:
    """Note which parts say what a single text or html of an alternative leaves out, should it be empty."""
    if len(texts) == 1:
        choice.stand_ins[texts[0].section] = tuple(htmls)
    if len(htmls) == 1:
        choice.stand_ins[htmls[0].section] = tuple(texts)
