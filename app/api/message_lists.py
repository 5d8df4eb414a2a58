"""Responses with lists of messages or threads: GET lists and searches return the same page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request, Response

from app.api.conditions import PRIVATE, is_unchanged, not_modified
from app.api.paging import link_of
from app.api.schemas.base import Sync
from app.api.schemas.filter_answers import filter_as_json
from app.api.standing import Standing
from app.services.access.callers import Caller
from app.services.reading.listing import Listing, ListOrder, ListPage
from app.services.reading.views import View, Views


@dataclass(frozen=True, slots=True)
class MessageLists:
    """Lists messages of the account in the path."""

    listing: Listing
    views: Views
    standing: Standing

    async def answer(
        self, request: Request, caller: Caller, order: ListOrder, view: View, *, has_text: bool
    ) -> Response:
        """Return a MessagePage, or 304. With `has_text` the page has the filter parsed from the text."""
        account_id = self.standing.account_id
        prepared = await self.listing.prepare(account_id, caller, order)
        state = self.standing.at(prepared.standing.position)
        if request.method == "GET" and is_unchanged(request, state):
            return not_modified(state)
        page = await self.listing.page(prepared)
        items = await self.views.listed(account_id, caller, page.items, view, order.tree)
        headers = {"Cache-Control": PRIVATE}
        if not awaits_previews(message.summary for message in page.items):
            headers["ETag"] = f'"{state}"'
        if request.method == "GET" and (page.next_cursor or page.prev_cursor):
            headers["Link"] = link_of(request, page.next_cursor, page.prev_cursor)
        filter_json = filter_as_json(prepared.order.tree) if has_text else None
        return Response(page_bytes(items, page, state, filter_json), headers=headers, media_type="application/json")


def awaits_previews(items: Iterable[bytes]) -> bool:
    """Whether the preview of a listed message has not been read yet: such a list has no ETag.

    Reading a preview emits no event, so the list changes while the state does not.
    """
    return any(b'"preview":null' in item for item in items)


def indexed_as_json(indexed: tuple[int, int] | None) -> dict[str, int] | None:
    """Return an Indexed object."""
    return None if indexed is None else {"messages": indexed[0], "of": indexed[1]}


def page_bytes(items: list[bytes], page: ListPage, state: str, filter_json: dict[str, Any] | None = None) -> bytes:
    """Return a MessagePage or ThreadPage with serialised items; `filter_json` is the parsed search text."""
    rest: dict[str, Any] = {
        "next_cursor": page.next_cursor,
        "prev_cursor": page.prev_cursor,
        "state": state,
        "sync": orjson.Fragment(Sync.of(page.sync).model_dump_json()),
        "total": page.total,
        "filter": filter_json,
        "indexed": indexed_as_json(page.indexed),
    }
    return b"".join((b'{"items":[', b",".join(items), b"],", orjson.dumps(rest)[1:]))


def is_forced(request: Request) -> bool:
    """Whether the request has `Cache-Control: no-cache`: ask the mail server first."""
    return "no-cache" in request.headers.get("cache-control", "")
