"""Pagination parameters and Link headers of lists."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from app.api.conditions import etag_headers
from app.api.schemas.base import AnswerModel

Limit = Annotated[int, Query(ge=1, le=500, description="The largest number of items")]
OptionalLimit = Annotated[int | None, Query(ge=1, le=500, description="The largest number of items; default: all")]
Cursor = Annotated[str | None, Query(max_length=4096, description="A `next_cursor` or `prev_cursor` of this list")]


def link_of(request: Request, next_cursor: str | None, prev_cursor: str | None = None) -> str:
    """Return the Link header (RFC 8288) for the list's other cursors; empty if there are none."""
    links = []
    for relation, cursor in (("next", next_cursor), ("prev", prev_cursor)):
        if cursor is not None:
            url = request.url.include_query_params(cursor=cursor)
            links.append(f'<{url.path}?{url.query}>; rel="{relation}"')
    return ", ".join(links)


def whole_list(request: Request, answer: AnswerModel, state: str, next_cursor: str | None) -> Response:
    """Return the response of a list that has all items by default; its ETag is the account's state."""
    headers = etag_headers(state)
    if next_cursor is not None:
        headers["Link"] = link_of(request, next_cursor)
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def add_link(request: Request, response: Response, next_cursor: str | None) -> None:
    """Add a Link header if there is a next page."""
    if next_cursor is not None:
        response.headers["Link"] = link_of(request, next_cursor)
