"""Safe file names for attachments."""

from __future__ import annotations

import re
import unicodedata

from app.mail.types import BodyPart
from app.mime.params import decoded_param
from app.mime.words import BIDI_CONTROLS, as_utf8, clean, decode_words

MAX_NAME_BYTES = 200
"""File systems take 255; a browser adds " (1)" and the like."""
MAX_EXTENSION_BYTES = 20
MAX_RAW_CHARS = 4_096

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\u200b-\u200d\u2060]")
_RESERVED = re.compile(r'[<>:"|?*]')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~{}0-9a-z-]{1,127}/[!#$%&'*+.^_`|~{}0-9a-z-]{1,127}")
_EXTENSIONS = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/vcard": ".vcf",
    "message/rfc822": ".eml",
    "message/global": ".eml",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "application/json": ".json",
    "application/pgp-signature": ".asc",
    "application/pgp-encrypted": ".asc",
    "application/pkcs7-signature": ".p7s",
    "application/x-pkcs7-signature": ".p7s",
    "application/pkcs7-mime": ".p7m",
    "application/x-pkcs7-mime": ".p7m",
    "application/ms-tnef": ".dat",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
    "audio/mpeg": ".mp3",
    "video/mp4": ".mp4",
}


def attachment_name(part: BodyPart) -> str | None:
    """A part's file name (RFC 2183, else Content-Type's `name`), made safe; None if it has none.

    An attached message without a name is named after its subject.
    """
    name = decoded_param(part.disposition_params, "filename") or decoded_param(part.params, "name")
    if not name and part.envelope is not None and part.envelope.subject:
        name = decode_words(part.envelope.subject).replace("/", "-").replace("\\", "-") + ".eml"
    return safe_name(name) if name else None


def download_name(part: BodyPart) -> str:
    """A file name to save a part under: the sender's, else built from its section and type."""
    section = part.section.lower().replace(".", "-") or "0"
    return attachment_name(part) or f"part-{section}{_EXTENSIONS.get(part.media_type, '.bin')}"


def content_id_of(part: BodyPart) -> str | None:
    """A part's Content-ID without brackets, as in `cid:` URLs; None if it has none."""
    text = clean(as_utf8(part.content_id)).strip("<> ") if part.content_id else ""
    return text or None


def media_type_of(part: BodyPart) -> str:
    """A part's type for an HTTP header. An invalid type from a mail server becomes application/octet-stream."""
    return part.media_type if _MEDIA_TYPE.fullmatch(part.media_type) else "application/octet-stream"


def safe_name(name: str) -> str | None:
    """The last component of a name, without control characters, direction marks and characters that are reserved.

    At most MAX_NAME_BYTES of UTF-8; the extension is kept. None if nothing is left.
    """
    name = unicodedata.normalize("NFC", name[-MAX_RAW_CHARS:])
    name = BIDI_CONTROLS.sub("", _CONTROLS.sub("", name)).replace("\\", "/")
    name = _RESERVED.sub("_", name.rpartition("/")[2]).strip(" .")
    if _DEVICE.fullmatch(name):
        name = f"_{name}"
    return _bounded(name) or None


def _bounded(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > MAX_EXTENSION_BYTES:
        return _cut(name, MAX_NAME_BYTES)
    tail = dot + extension
    return _cut(stem, MAX_NAME_BYTES - len(tail.encode())) + tail


def _cut(text: str, size_bytes: int) -> str:
    return text.encode()[:size_bytes].decode("utf-8", "ignore")
