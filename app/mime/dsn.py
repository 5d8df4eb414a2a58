"""Reading of delivery status notifications (RFC 3464, RFC 6533): the reported message and each recipient's status.

Only the status part and the returned header of a report are read. Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.mail.types import BodyPart
from app.mime.fields import Fields, first_value, split_fields
from app.mime.transfer import decode_transfer

MAX_PART_BYTES = 256 * 1024
"""Bytes that are read of a part. Recipients after them are ignored."""
MAX_RECIPIENTS = 1_000
_MAX_TEXT_CHARS = 500

_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_HEADER_TYPES = ("text/rfc822-headers", "message/global-headers")
_MESSAGE_TYPES = ("message/rfc822", "message/global")
_BLANK_LINES = re.compile(rb"(?:\r?\n[ \t]*){2,}")
_MESSAGE_ID = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{1,900}>")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Reported:
    """The status of one recipient. `addresses`: the final and, if reported, the original address, in lower case.

    `action` is failed, delayed, delivered, relayed, expanded, or another word from the report, in lower case.
    """

    addresses: tuple[str, ...]
    action: str
    status: str | None = None
    diagnostic: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A delivery report. `message_id` (with its brackets) is that of the reported message."""

    envelope_id: str | None
    message_id: str | None
    recipients: tuple[Reported, ...]


def parts_to_read(structure: BodyPart | None) -> tuple[BodyPart, ...]:
    """The parts of a message that `read_report` needs; empty if the message is not a report."""
    if structure is None or structure.media_type != "multipart/report":
        return ()
    status = next((part for part in structure.children if part.media_type in _STATUS_TYPES), None)
    if status is None:
        return ()
    return (status, *(part for part in structure.children if part.media_type in _HEADER_TYPES))[:2]


def read_report(structure: BodyPart, contents: Mapping[str, bytes]) -> Report | None:
    """Read a report; None if it names no recipient. `contents` has the encoded parts to read, by section."""
    parts = parts_to_read(structure)
    if not parts:
        return None
    texts = [decode_transfer(contents.get(part.section, b"")[:MAX_PART_BYTES], part.encoding)[0] for part in parts]
    blocks = [split_fields(block) for block in _BLANK_LINES.split(texts[0].strip(), MAX_RECIPIENTS)]
    recipients = tuple(reported for fields in blocks if (reported := _reported(fields)) is not None)
    if not recipients:
        return None
    envelope_id = first_value(blocks[0], "original-envelope-id")
    header = split_fields(texts[1]) if len(texts) > 1 else []
    message_id = first_value(header, "message-id") or _returned_id(structure) or ""
    return Report(_text(envelope_id), message_id if _MESSAGE_ID.fullmatch(message_id) else None, recipients)


def _returned_id(structure: BodyPart) -> str | None:
    """The Message-ID of a message that was returned whole, from the envelope of its part."""
    envelopes = (part.envelope for part in structure.children if part.media_type in _MESSAGE_TYPES)
    return next((envelope.message_id for envelope in envelopes if envelope is not None), None)


def _reported(fields: Fields) -> Reported | None:
    values = [first_value(fields, name) for name in ("final-recipient", "original-recipient")]
    addresses = tuple(dict.fromkeys(_address(value) for value in values if value))
    action = (first_value(fields, "action") or "").partition(" ")[0].lower()
    if not addresses or not action:
        return None
    status = _STATUS.match(first_value(fields, "status") or "")
    diagnostic = first_value(fields, "diagnostic-code")
    response = diagnostic.partition(";")[2] or diagnostic if diagnostic else None
    return Reported(addresses, action[:_MAX_TEXT_CHARS], status[0] if status else None, _text(response))


def _address(value: str) -> str:
    """An address without its type ("rfc822;"), with escaped non-ASCII characters decoded (RFC 6533 §3)."""
    text = value.partition(";")[2] or value
    return _ESCAPE.sub(lambda match: _letter(int(match[1], 16)), text).strip().strip("<>").lower()


def _letter(code: int) -> str:
    return chr(code) if 0x20 < code < 0xD800 or 0xE000 <= code <= 0x10FFFF else ""


def _text(value: str | None) -> str | None:
    return _UNPRINTABLE.sub(" ", value[:_MAX_TEXT_CHARS]).strip() or None if value else None
