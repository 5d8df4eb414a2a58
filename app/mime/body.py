"""Choice of the parts that are displayed or attached (RFC 8621 §4.1.4), from the message's structure alone."""

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
"""Text types that are for programs, not for people."""
SMIME_TYPES = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,5}=\s{0,5}[\"']?([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_LINE_ENDS = re.compile(r"\r*+\n|\r(?!\r*+\n)")
"""A line end, including encoded CRs before it (`=0D` and CRLF)."""
_META_WINDOW_BYTES = 4096


@dataclass(frozen=True, slots=True)
class BodyChoice:
    """Parts in display order. `text` holds HTML parts if a message has no plain text, and vice versa.

    `stand_ins`: for a part of a multipart/alternative, by its section, the parts to show if it has no text.
    """

    text: tuple[BodyPart, ...] = ()
    html: tuple[BodyPart, ...] = ()
    attachments: tuple[BodyPart, ...] = ()
    stand_ins: Mapping[str, tuple[BodyPart, ...]] = field(default_factory=dict)


class Protection(StrEnum):
    """How a message, or a part of it, is signed or encrypted end to end. Signatures are not verified."""

    PGP_SIGNED = "pgp_signed"
    PGP_ENCRYPTED = "pgp_encrypted"
    SMIME_SIGNED = "smime_signed"
    SMIME_ENCRYPTED = "smime_encrypted"


@dataclass(slots=True)
class _Choice:
    """The lists while they are filled."""

    text: list[BodyPart] = field(default_factory=list)
    html: list[BodyPart] = field(default_factory=list)
    attachments: list[BodyPart] = field(default_factory=list)
    stand_ins: dict[str, tuple[BodyPart, ...]] = field(default_factory=dict)


def choose_body(structure: BodyPart) -> BodyChoice:
    """Choose the text parts, HTML parts and attachments of a message. An attached message is one attachment."""
    choice = _Choice()
    _choose([structure], "mixed", choice, is_text_open=True, is_html_open=True, is_in_alternative=False)
    if not any(part.media_type.startswith("text/") for part in (*choice.text, *choice.html)):
        _show_other_text(choice)
    return BodyChoice(tuple(choice.text), tuple(choice.html), tuple(choice.attachments), choice.stand_ins)


def sections_to_fetch(structure: BodyPart) -> tuple[str, ...]:
    """The sections that are needed to show the message: its text parts, without duplicates, in order."""
    choice = choose_body(structure)
    parts = {part.section: part for part in (*choice.text, *choice.html)}
    return tuple(section for section, part in parts.items() if part.media_type.startswith("text/"))


def has_attachments(structure: BodyPart) -> bool:
    """Whether a mail program would show an attachment.

    Signatures, images in the text, and invitations that are not files do not count.
    """
    choice = choose_body(structure)
    is_html_shown = any(part.media_type == "text/html" for part in choice.html)
    pictures = (part for part in choice.html if part.media_type.startswith(_SEEN_TYPES))
    return any(
        not (part.media_type in _SIGNATURES or _is_invitation(part) or (is_html_shown and _is_shown_image(part)))
        for part in (*choice.attachments, *pictures)
    )


def part_at(structure: BodyPart, section: str) -> BodyPart | None:
    """The part with this section number, or None."""
    return next((part for part in structure.walk() if part.section == section), None)


def protections_of(structure: BodyPart) -> tuple[Protection, ...]:
    """The kinds of signature and encryption among a message's parts, without duplicates (RFC 3156, RFC 8551)."""
    kinds = (_protection(part) for part in structure.walk())
    return tuple(dict.fromkeys(kind for kind in kinds if kind is not None))


def decode_body(raw: bytes, part: BodyPart) -> tuple[str, tuple[str, ...]]:
    """Decode a text part. Return its text, with "\\n" line ends, and descriptions of problems for people."""
    decoded, is_damaged = decode_transfer(raw, part.encoding)
    result = decode(decoded, _charset_label(decoded, part))
    problems = []
    if is_damaged:
        problems.append(f"part {part.section}: the {part.encoding} encoding is damaged")
    if result.is_guess:
        problems.append(f"part {part.section}: the charset was guessed ({result.charset})")
    if result.is_damaged:
        problems.append(f"part {part.section}: some characters are not valid {result.charset} and were replaced")
    text = result.text.removeprefix("\ufeff").replace("\x00", "")
    if "\r" in text:
        text = _LINE_ENDS.sub("\n", text)
    if (part.param("format") or "").lower() == "flowed":
        text = unflowed(text, delete_space=(part.param("delsp") or "").lower() == "yes")
    return text, tuple(problems)


def _is_invitation(part: BodyPart) -> bool:
    return part.media_type in CALENDAR_TYPES and part.disposition != "attachment" and attachment_name(part) is None


def _is_shown_image(part: BodyPart) -> bool:
    """Whether a part is an image in the HTML. The disposition counts: Gmail gives every attachment a Content-ID."""
    return part.media_type.startswith("image/") and part.content_id is not None and part.disposition != "attachment"


def _charset_label(decoded: bytes, part: BodyPart) -> str | None:
    """The label in Content-Type, else in the HTML. Mail servers report us-ascii if a part has no label."""
    label = part.param("charset") or part.param("charset*")
    if part.media_type == "text/html" and (label is None or label.lower() == "us-ascii"):
        return meta_charset(decoded) or label
    return label


def meta_charset(html: bytes) -> str | None:
    """The charset that an HTML document declares in a meta element, or None."""
    match = _META_CHARSET.search(html[:_META_WINDOW_BYTES])
    return match[1].decode("ascii") if match else None


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
    """Choose from one level of a multipart. `kind` is its subtype; `start` names its root part (RFC 2387).

    A list that is not open takes no more parts of the current alternative. Recursion is bounded by the tree's depth.
    """
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
    """The index of the root part of a multipart/related (RFC 2387 §3.2)."""
    root_id = start.strip("<> ")
    named = (index for index, part in enumerate(parts) if root_id and content_id_of(part) == root_id)
    texts = (index for index, part in enumerate(parts) if part.is_multipart or part.media_type.startswith("text/"))
    return next(named, next(texts, 0))


def _is_inline(part: BodyPart, kind: str, *, is_root: bool) -> bool:
    """Whether a part belongs to the body rather than to the attachments."""
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
    """Whether a part of an alternative repeats the text for other programs, as AMP and enriched text do."""
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
    """Use the text of an alternative as its HTML too, or vice versa, if it has only one of them."""
    has_text, has_html = len(choice.text) > text_before, len(choice.html) > html_before
    if has_html and not has_text:
        choice.text.extend(choice.html[html_before:])
    elif has_text and not has_html:
        choice.html.extend(choice.text[text_before:])
    elif has_text:
        _let_stand_in(choice, choice.text[text_before:], choice.html[html_before:])


def _show_other_text(choice: _Choice) -> None:
    """Show another text type as plain text, in a message without text/plain and text/html (RFC 2046 §4.1.4)."""
    others = (part for part in choice.attachments if part.media_type.startswith("text/"))
    for part in others:
        if part.media_type not in _NO_PROSE and part.disposition != "attachment" and attachment_name(part) is None:
            choice.attachments.remove(part)
            choice.text.append(part)
            choice.html.append(part)
            return


def _let_stand_in(choice: _Choice, texts: list[BodyPart], htmls: list[BodyPart]) -> None:
    """Note the parts that replace the only text or HTML part of an alternative if it is empty."""
    if len(texts) == 1:
        choice.stand_ins[texts[0].section] = tuple(htmls)
    if len(htmls) == 1:
        choice.stand_ins[htmls[0].section] = tuple(texts)
