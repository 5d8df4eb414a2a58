"""ETags: what If-None-Match and If-Match mean (RFC 9110 §13)."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.compression import without_suffix

STATE_HEADER = "Postgate-State"
"""Carries the account's state on answers whose body has no place for it."""
PRIVATE = "private, no-cache"
"""Cache-Control of what is one caller's alone and must be asked about again."""


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the caller has this representation: If-None-Match, compared weakly. `etag` is without quotes."""
    given = request.headers.get("if-none-match")
    return given is not None and (given.strip() == "*" or etag in _tags(given))


def not_modified(etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": f'"{etag}"', "Cache-Control": PRIVATE})


def etag_headers(etag: str) -> dict[str, str]:
    return {"ETag": f'"{etag}"', "Cache-Control": PRIVATE}


def if_match(request: Request) -> set[str] | None:
    """The ETags of If-Match, without quotes; None where it is absent or `*`. Weak ones never match."""
    given = request.headers.get("if-match")
    if given is None or given.strip() == "*":
        return None
    return {without_suffix(tag.strip()[1:-1]) for tag in given.split(",") if tag.strip().startswith('"')}


def _tags(text: str) -> set[str]:
    return {without_suffix(tag.strip().removeprefix("W/")[1:-1]) for tag in text.split(",")}
