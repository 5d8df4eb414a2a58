"""ETags, If-None-Match and If-Match (RFC 9110 §13)."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.compression import without_suffix

STATE_HEADER = "Postgate-State"
"""The account's state, in responses whose body has no field for it."""
PRIVATE = "private, no-cache"
"""Cache-Control of responses for one caller that must be revalidated."""


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether If-None-Match has this ETag, by weak comparison. `etag` has no quotes."""
    header = request.headers.get("if-none-match")
    return header is not None and (header.strip() == "*" or etag in _tags(header))


def not_modified(etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": f'"{etag}"', "Cache-Control": PRIVATE})


def etag_headers(etag: str) -> dict[str, str]:
    return {"ETag": f'"{etag}"', "Cache-Control": PRIVATE}


def if_match(request: Request) -> set[str] | None:
    """Return the ETags of If-Match without quotes; None if it is absent or `*`. Weak ETags never match."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    return {without_suffix(tag.strip()[1:-1]) for tag in header.split(",") if tag.strip().startswith('"')}


def _tags(text: str) -> set[str]:
    return {without_suffix(tag.strip().removeprefix("W/")[1:-1]) for tag in text.split(",")}
