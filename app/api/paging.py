"""Parameters that lists share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

Limit = Annotated[int, Query(ge=1, le=500, description="How many items at most")]
Cursor = Annotated[str | None, Query(max_length=4096, description="A `next_cursor` or `prev_cursor` of this list")]


def link_of(request: Request, next_cursor: str | None, prev_cursor: str | None = None) -> str:
    """The Link header (RFC 8288): this list at its other cursors; empty where there is none."""
    links = []
    for relation, cursor in (("next", next_cursor), ("prev", prev_cursor)):
        if cursor is not None:
            url = request.url.include_query_params(cursor=cursor)
            links.append(f'<{url.path}?{url.query}>; rel="{relation}"')
    return ", ".join(links)


def add_link(request: Request, response: Response, next_cursor: str | None) -> None:
    """Give an answer its Link header, if there is more."""
    if next_cursor is not None:
        response.headers["Link"] = link_of(request, next_cursor)
