"""Bytes by HTTP: ranges, ETags, HEAD, exact lengths where they are known; streamed in flat memory."""

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
"""Up to this size an answer is not streamed."""


class Source(Protocol):
    """Something to download."""

    async def size(self, *, is_needed: bool) -> int | None:
        """Its size in bytes; None only where finding out is dear and it is not `is_needed`."""
        ...

    def stream(self, span: ByteRange) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Labels:
    """How a download is labelled. It is an attachment unless `is_inline`: no document of a stranger's is shown.

    `headers` take the place of those that every download has.
    """

    etag: str
    media_type: str
    filename: str | None
    is_inline: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


async def download(request: Request, source: Source, labels: Labels) -> Response:
    """The answer to GET or HEAD. Several ranges at once are answered by the whole (RFC 9110 §14.2).

    Raises RangeNotSatisfiable, and what reading raises, before anything is sent.
    """
    if is_unchanged(request, labels.etag):
        return Response(status_code=304, headers=_headers(labels))
    headers = _headers(labels)
    wanted = _wanted_range(request, labels.etag)
    size = await source.size(is_needed=wanted is not None or request.method == "HEAD")
    span, status = WHOLE, 200
    if wanted is not None and size is not None:
        span, status = parse_range(wanted, size), 206
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
        return Response(beginning, status, headers)  # all there is: no stream is needed
    return StreamingResponse(_with_first(beginning, pieces), status, headers)


async def _beginning(pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """What comes first, more than AT_ONCE_BYTES of it unless it is all."""
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
    """The one range of a Range header (RFC 9110 §14.1.2). RangeNotSatisfiable for one that is none or lies outside."""
    found = _RANGE.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        raise RangeNotSatisfiable(size)
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    if start >= stop:
        raise RangeNotSatisfiable(size)
    return ByteRange(start, stop)


def _wanted_range(request: Request, etag: str) -> str | None:
    """The Range header where it counts: in bytes, one range, and of this representation (If-Range)."""
    text = request.headers.get("range")
    if text is None or "," in text or not text.lstrip().startswith("bytes"):
        return None
    condition = request.headers.get("if-range")
    return text if condition is None or condition.strip() == f'"{etag}"' else None


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
