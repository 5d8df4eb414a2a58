"""Composition of messages to send (RFC 5322, RFC 2045)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from app.errors import InvalidRequest
from app.mail.types import Address, BodyPart
from app.mime import writer
from app.mime.names import attachment_name, content_id_of, media_type_of, safe_name
from app.mime.params import parse_value
from app.mime.text import text_of_html
from app.mime.validate import header_text, validate_address, validate_header, validate_message_id

MAX_RECIPIENTS = 1_000
MAX_ENCLOSURES = 500
MAX_OWN_HEADERS = 100

_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,200}")
_CHARSET = re.compile(r"[A-Za-z0-9_.:-]{1,40}")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


@dataclass(frozen=True, slots=True)
class Enclosure:
    """An attachment, or with a `content_id` (without brackets) an image that the HTML shows.

    `content` in pieces is read once, while the message is written. The content of a message/rfc822 is copied unchanged
    and must have CRLF line ends.
    """

    filename: str | None
    content_type: str
    content: writer.Content
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of a message. `date_ms` is since 1970 UTC. Without `text`, the plain text is made from the HTML."""

    from_: Address
    message_id: str
    date_ms: int
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    enclosures: tuple[Enclosure, ...] = ()
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    allow_utf8: bool = False
    """Whether addresses may contain non-ASCII characters (SMTPUTF8)."""


def enclosure_of(part: BodyPart, content: writer.Content) -> Enclosure:
    """A part of a received message as an attachment to send. Invalid values in its header are replaced."""
    media_type = media_type_of(part)
    charset = part.param("charset") or ""
    if media_type.startswith("multipart/"):
        media_type = "application/octet-stream"
    elif media_type.startswith("text/") and _CHARSET.fullmatch(charset):
        media_type = f"{media_type}; charset={charset}"
    content_id = content_id_of(part) or ""
    return Enclosure(
        attachment_name(part), media_type, content, content_id if _CONTENT_ID.fullmatch(content_id) else None
    )


def compose(draft: Draft, *, shows_bcc: bool = False) -> bytes:
    """The whole message, with CRLF line ends. The same draft gives the same bytes.

    `shows_bcc` is for copies that only the sender reads: a sent message must not have a Bcc field (RFC 5322 §3.6.3).
    Raises InvalidRequest, with a pointer into the body of `POST /send`.
    """
    return b"".join(compose_pieces(draft, shows_bcc=shows_bcc))


def compose_pieces(draft: Draft, *, shows_bcc: bool = False) -> Iterator[bytes]:
    """The message in pieces; attachments are written as they are read. Validation precedes the first piece."""
    fields = _header(draft, shows_bcc=shows_bcc)
    body = _body(draft)
    return _written(fields, body, hashlib.sha256(draft.message_id.encode()).hexdigest()[:32])


def recipients_of(draft: Draft) -> list[str]:
    """The validated recipients of the envelope, without duplicates, in order. Raises InvalidRequest."""
    listed = [
        address.address
        for name in ("to", "cc", "bcc")
        for address in _checked(getattr(draft, name), f"/{name}", allow_utf8=draft.allow_utf8)
    ]
    if len(listed) > MAX_RECIPIENTS:
        raise InvalidRequest.at("/to", f"At most {MAX_RECIPIENTS} recipients are allowed")
    return list(dict.fromkeys(listed))


def _written(fields: list[str], body: writer.Part, seed: str) -> Iterator[bytes]:
    yield "".join(f"{line}\r\n" for line in fields).encode()
    yield from writer.write_part(body, seed)


def _header(draft: Draft, *, shows_bcc: bool) -> list[str]:
    recipients_of(draft)
    lists = {
        "From": _checked([draft.from_], "/from", allow_utf8=draft.allow_utf8, is_one=True),
        "Reply-To": _checked(draft.reply_to, "/reply_to", allow_utf8=draft.allow_utf8),
        "To": _checked(draft.to, "/to", allow_utf8=draft.allow_utf8),
        "Cc": _checked(draft.cc, "/cc", allow_utf8=draft.allow_utf8),
    }
    if shows_bcc:
        lists["Bcc"] = _checked(draft.bcc, "/bcc", allow_utf8=draft.allow_utf8)
    date = datetime.fromtimestamp(draft.date_ms // 1000, UTC)
    fields = [f"Date: {format_datetime(date)}"]
    fields += [writer.addresses(name, listed) for name, listed in lists.items() if listed]
    if not (draft.to or draft.cc):
        fields.append("To: undisclosed-recipients:;")
    fields.append(writer.unstructured("Subject", header_text(draft.subject, "/subject")))
    fields.append(f"Message-ID: {validate_message_id(draft.message_id, '/message_id_header')}")
    fields += _ids("In-Reply-To", draft.in_reply_to) + _ids("References", draft.references)
    return [*fields, *_own(draft), "MIME-Version: 1.0"]


def _ids(name: str, ids: Sequence[str]) -> list[str]:
    pointer = "/" + name.lower().replace("-", "_")
    checked = [validate_message_id(value, f"{pointer}/{index}") for index, value in enumerate(ids)]
    return [writer.message_ids(name, checked)] if checked else []


def _own(draft: Draft) -> list[str]:
    """The client's own headers."""
    if len(draft.headers) > MAX_OWN_HEADERS:
        raise InvalidRequest.at("/headers", f"At most {MAX_OWN_HEADERS} headers are allowed")
    for index, (name, value) in enumerate(draft.headers):
        validate_header(name, value, f"/headers/{index}")
    return [writer.unstructured(name, value) for name, value in draft.headers]


def _checked(listed: Sequence[Address], pointer: str, *, allow_utf8: bool, is_one: bool = False) -> list[Address]:
    checked: list[Address] = []
    for index, address in enumerate(listed):
        item = pointer if is_one else f"{pointer}/{index}"
        name = header_text(address.name, f"{item}/name")
        checked.append(Address(name, validate_address(address.address, f"{item}/address", allow_utf8=allow_utf8)))
    return checked


def _body(draft: Draft) -> writer.Part:
    if len(draft.enclosures) > MAX_ENCLOSURES:
        raise InvalidRequest.at("/attachments", f"At most {MAX_ENCLOSURES} attachments are allowed")
    parts = [_enclosed(enclosure, f"/attachments/{index}") for index, enclosure in enumerate(draft.enclosures)]
    is_shown = [draft.html is not None and enclosure.content_id is not None for enclosure in draft.enclosures]
    shown = [part for part, is_inside in zip(parts, is_shown, strict=True) if is_inside]
    attached = [part for part, is_inside in zip(parts, is_shown, strict=True) if not is_inside]
    readable = _readable(draft, shown)
    return writer.multipart("mixed", [readable, *attached]) if attached else readable


def _readable(draft: Draft, shown: list[writer.Part]) -> writer.Part:
    """The text, or text and HTML as alternatives; the HTML comes with its images."""
    if draft.html is None:
        return writer.text_part("plain", draft.text or "")
    text = writer.text_part("plain", draft.text if draft.text is not None else text_of_html(draft.html))
    html = writer.text_part("html", draft.html)
    return writer.multipart("alternative", [text, writer.multipart("related", [html, *shown]) if shown else html])


def _enclosed(enclosure: Enclosure, pointer: str) -> writer.Part:
    fields = [_content_type(enclosure, pointer)]
    name = header_text(enclosure.filename, f"{pointer}/filename") if enclosure.filename else None
    name = safe_name(name) if name else None
    kind = "inline" if enclosure.content_id else "attachment"
    fields.append(f"Content-Disposition: {kind}" + (writer.parameter("filename", name) if name else ""))
    if enclosure.content_id is not None:
        if not _CONTENT_ID.fullmatch(enclosure.content_id):
            raise InvalidRequest.at(f"{pointer}/content_id", "Invalid Content-ID")
        fields.append(f"Content-ID: <{enclosure.content_id}>")
    if not fields[0].startswith("Content-Type: message/rfc822"):
        return writer.Part(tuple(fields), "base64", enclosure.content)
    raw = enclosure.content if isinstance(enclosure.content, bytes) else b"".join(enclosure.content)
    return writer.Part(tuple(fields), "7bit" if raw.isascii() else "8bit", raw)


def _content_type(enclosure: Enclosure, pointer: str) -> str:
    pointer = f"{pointer}/content_type"
    media_type, params = parse_value(header_text(enclosure.content_type, pointer))
    if not _MEDIA_TYPE.fullmatch(media_type) or media_type.startswith("multipart/"):
        raise InvalidRequest.at(pointer, "Invalid media type for an attachment")
    passed_on = ((name, value) for name, value in params if name in ("charset", "method", "format", "delsp", "profile"))
    return f"Content-Type: {media_type}" + "".join(writer.parameter(name, value) for name, value in passed_on)
