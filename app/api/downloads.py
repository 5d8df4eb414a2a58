"""Downloads over HTTP: ranges, ETags, HEAD, known lengths; streamed with bounded memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from app.api.conditions import is_unchanged
from app.errors import RangeNotSatisfiable
from app.mail.backend import WHOLE, ByteRange
from app.mime.disposition import content_disposition
from app.services.reading.downloads import cut

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_SAFE = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-site",
    "Accept-Ranges": "bytes",
}

AT_ONCE_BYTES = 128 * 1024
"""Responses up to this size are not streamed."""


class Source(Protocol):
    """Something to download."""

    async def size(self, *, is_needed: bool) -> int | None:
        """Return the size in bytes; None only if computing it is expensive and not `is_needed`."""
        ...

    def stream(self, span: ByteRange) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Labels:
    """The headers of a download. It is an attachment unless `is_inline`, so browsers do not show untrusted content.

    `headers` override the headers that every download has.
    """

    etag: str
    media_type: str
    filename: str | None
    is_inline: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


async def download(request: Request, source: Source, labels: Labels) -> Response:
    """Answer GET or HEAD. A request for several ranges gets the complete content (RFC 9110 §14.2).

    Raises RangeNotSatisfiable, and errors of the first read, before anything is sent.
    """
    if is_unchanged(request, labels.etag):
        return Response(status_code=304, headers=_headers(labels))
    headers = _headers(labels)
    range_header = _wanted_range(request, labels.etag)
    size = await source.size(is_needed=range_header is not None or request.method == "HEAD")
    span, status = WHOLE, 200
    if range_header is not None and size is not None:
        span, status = parse_range(range_header, size), 206
        headers["Content-Range"] = f"bytes {span.start}-{(span.stop or 0) - 1}/{size}"
        size = (span.stop or 0) - span.start
    if size is not None:
        headers["Content-Length"] = str(size)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    pieces = source.stream(span) if size is None else cut(source.stream(span), ByteRange(0, size))
    beginning, is_all = await _beginning(pieces)
    if is_all:
        headers["Content-Length"] = str(len(beginning))
        return Response(beginning, status, headers)  # complete: needs no stream
    return StreamingResponse(_with_first(beginning, pieces), status, headers)


async def _beginning(pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """Return the first bytes, and whether they are all; more than AT_ONCE_BYTES if they are not."""
    beginning = bytearray()
    async for piece in pieces:
        beginning += piece
        if len(beginning) > AT_ONCE_BYTES:
            return bytes(beginning), False
    return bytes(beginning), True


def _headers(labels: Labels) -> dict[str, str]:
    media_type = labels.media_type if _MEDIA_TYPE.fullmatch(labels.media_type) else "application/octet-stream"
    return {
        **_SAFE,
        "ETag": f'"{labels.etag}"',
        "Cache-Control": "private, max-age=3600, immutable",
        "Content-Type": media_type,
        "Content-Disposition": content_disposition(labels.filename, inline=labels.is_inline),
        **labels.headers,
    }


def parse_range(text: str, size: int) -> ByteRange:
    """Parse a Range header with one range (RFC 9110 §14.1.2).

    Raises RangeNotSatisfiable if it is invalid or outside the content.
    """
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise RangeNotSatisfiable(size)
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    if start >= stop:
        raise RangeNotSatisfiable(size)
    return ByteRange(start, stop)


def _wanted_range(request: Request, etag: str) -> str | None:
    """Return the Range header if it applies: one range, in bytes, of this representation (If-Range)."""
    text = request.headers.get("range")
    if text is None or "," in text or not text.lstrip().startswith("bytes"):
        return None
    condition = request.headers.get("if-range")
    return text if condition is None or condition.strip() == f'"{etag}"' else None


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
