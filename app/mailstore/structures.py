"""The JSON coding of body structures: a list per part, in the order of BodyPart's fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from app.mail.types import BodyPart, Envelope, EnvelopeAddress
from app.mime.structure import MAX_PARTS


def structure_to_json(part: BodyPart) -> list[Any]:
    """Return a JSON value of a part and all parts below it."""
    return [
        part.section,
        _safe(part.media_type),
        _safe_pairs(part.params),
        _safe(part.content_id),
        _safe(part.description),
        _safe(part.encoding),
        part.size_bytes,
        part.lines,
        _safe(part.md5),
        _safe(part.disposition),
        _safe_pairs(part.disposition_params),
        [_safe(tag) for tag in part.language],
        _safe(part.location),
        None if part.envelope is None else _envelope_to_json(part.envelope),
        [structure_to_json(child) for child in part.children],
        part.span,
    ]


def _safe_pairs(value: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    return [(_safe_text(name), _safe_text(text)) for name, text in value]


def _pairs(value: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((_unsafe_text(name), _unsafe_text(text)) for name, text in value)


def structure_from_json(value: list[Any]) -> BodyPart:
    """Read the result of `structure_to_json`; of a row from an older version, the first MAX_PARTS parts."""
    return _part_from_json(value, count(1))


def _part_from_json(value: list[Any], numbers: Iterator[int]) -> BodyPart:
    """`numbers` counts the parts of the whole structure that were read."""
    (section, media_type, params, content_id, description, encoding, size, lines, md5, disposition, disposition_params,
     language, location, envelope, children, span) = value  # fmt: skip
    return BodyPart(
        section,
        _unsafe_text(media_type),
        _pairs(params),
        _unsafe(content_id),
        _unsafe(description),
        _unsafe_text(encoding),
        size,
        lines,
        _unsafe(md5),
        _unsafe(disposition),
        _pairs(disposition_params),
        tuple(_unsafe_text(tag) for tag in language),
        _unsafe(location),
        None if envelope is None else _envelope_from_json(envelope),
        tuple(_part_from_json(child, numbers) for child in children if next(numbers) < MAX_PARTS),
        None if span is None else (span[0], span[1], span[2]),
    )


_ENVELOPE_LISTS = ("from_", "sender", "reply_to", "to", "cc", "bcc")


def _envelope_to_json(envelope: Envelope) -> dict[str, Any]:
    """Like parts' texts, these may have raw bytes (surrogates), which JSON cannot hold: latin-1 of their UTF-8 can."""
    lists = {
        name: [
            [_safe(item.name), _safe(item.route), _safe(item.mailbox), _safe(item.host)]
            for item in getattr(envelope, name)
        ]
        for name in _ENVELOPE_LISTS
    }
    texts = ("date", "subject", "in_reply_to", "message_id")
    return lists | {name: _safe(getattr(envelope, name)) for name in texts}


def _safe_text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _unsafe_text(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogateescape")


def _safe(text: str | None) -> str | None:
    return None if text is None else _safe_text(text)


def _unsafe(text: str | None) -> str | None:
    return None if text is None else _unsafe_text(text)


def _addresses_from_json(value: list[list[str | None]]) -> tuple[EnvelopeAddress, ...]:
    return tuple(EnvelopeAddress(*(_unsafe(field) for field in item)) for item in value)


def _envelope_from_json(value: Mapping[str, Any]) -> Envelope:
    from_, sender, reply_to, to, cc, bcc = (_addresses_from_json(value[name]) for name in _ENVELOPE_LISTS)
    date, subject = _unsafe(value["date"]), _unsafe(value["subject"])
    in_reply_to, message_id = _unsafe(value["in_reply_to"]), _unsafe(value["message_id"])
    return Envelope(date, subject, from_, sender, reply_to, to, cc, bcc, in_reply_to, message_id)
