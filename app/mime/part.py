"""The header fields of one part, as BODYSTRUCTURE describes them (RFC 9051 §7.5.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.mime.fields import unfold
from app.mime.params import Params, extended_value, parse_value
from app.mime.transfer import usual_encoding

DEFAULT_PARAMS: Params = (("charset", "us-ascii"),)
OPAQUE = "application/octet-stream"

_COMMENT = re.compile(r"\([^()]*+\)")
_ENCODING = re.compile(r"\s*+(quoted[ _]printable|[^\s;,(]++)", re.IGNORECASE)


Headers = Mapping[str, bytes]
"""Raw field values by lower-case name. The first of repeated fields counts, as in other mail programs."""


def text_of(headers: Headers, name: str) -> str | None:
    """The unfolded value of the field with this lower-case name, or None."""
    value = headers.get(name)
    return unfold(value) if value is not None else None


def content_type(headers: Headers, *, is_in_digest: bool) -> tuple[str, Params]:
    """The media type and its parameters, with the defaults of RFC 2045 §5.2; in a multipart/digest, of RFC 2046 §5.1.5.

    An invalid type becomes text/plain, or application/octet-stream if the part is a file.
    """
    value = text_of(headers, "content-type")
    if not value:
        return ("message/rfc822", ()) if is_in_digest else ("text/plain", DEFAULT_PARAMS)
    media_type, params = parse_value(value)
    if "/" not in media_type:
        is_file = any(name.startswith("name") for name, _ in params) or "content-disposition" in headers
        media_type = OPAQUE if is_file and media_type != "text" else "text/plain"
    if media_type.startswith("text/") and not any(name in ("charset", "charset*") for name, _ in params):
        params += DEFAULT_PARAMS
    return media_type, params


def boundary_of(params: Params) -> bytes:
    """A multipart's boundary, with RFC 2231 encoding decoded; b"" if it has none."""
    extended = next((extended_value(value) for name, value in params if name == "boundary*"), None)
    value = next((value for name, value in params if name == "boundary"), extended or "")
    return value.rstrip().encode("utf-8", "surrogateescape")


def encoding(headers: Headers) -> str:
    """The transfer encoding in lower case; "7bit" if the header names none."""
    match = _ENCODING.match(text_of(headers, "content-transfer-encoding") or "")
    return usual_encoding(match[1].lower()) if match else "7bit"


def disposition(headers: Headers) -> tuple[str | None, Params]:
    """The disposition in lower case, or None, and its parameters."""
    value = text_of(headers, "content-disposition")
    if value is None:
        return None, ()
    kind, params = parse_value(f";{value}" if "=" in value.partition(";")[0] else value)
    return kind or None, params


def languages(headers: Headers) -> tuple[str, ...]:
    """The language tags of Content-Language (RFC 3282), without comments."""
    value = text_of(headers, "content-language")
    if value is None:
        return ()
    tags = _COMMENT.sub("", value).split(",")
    return tuple(tag.strip() for tag in tags if tag.strip())
