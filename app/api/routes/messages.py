"""Messages of an account: listed, searched, read and changed one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
from fastapi import Query, Request, Response

from app.api.conditions import PRIVATE, STATE_HEADER, etag_headers, if_match, is_unchanged, not_modified
from app.api.deps import CurrentCaller, DeletableAccount, ModifiableAccount, ReadableAccount, Services, services_of
from app.api.paging import link_of
from app.api.problems import parameters_in_body, problems
from app.api.queries import parameters_of, query_of
from app.api.routing import Router
from app.api.schemas.base import Sync
from app.api.schemas.filter_answers import filter_shown
from app.api.schemas.message_requests import ChangeRequest, CountText, GetQuery, ListQuery, SearchRequest
from app.api.schemas.messages import Message, MessagePage, MessageSummary
from app.errors import (
    Conflict,
    InvalidRequest,
    LoginRefused,
    MailboxNotFound,
    MessageNotFound,
    PreconditionFailed,
    ServerProtocolError,
    ServerRefused,
    StateExpired,
    SyncPending,
    TimedOut,
    Unreachable,
)
from app.mail import types
from app.mail.types import AccountId
from app.services.access.callers import Caller
from app.services.changing.messages import Changed
from app.services.reading.listing import ListOrder, ListPage
from app.services.reading.views import SUMMARY, View

router = Router(prefix="/v1/accounts/{account_id}/messages", tags=["messages"])
ORIGIN = (LoginRefused, ServerRefused, ServerProtocolError, Unreachable, TimedOut)
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "As known"}}
_VERSION = re.compile(r"(\d{1,18})-[a-z-]+")


@router.get(
    "",
    operation_id="listMessages",
    response_model=MessagePage,
    openapi_extra=parameters_of(ListQuery),
    responses={
        **NOT_MODIFIED,
        **problems(MailboxNotFound, StateExpired, InvalidRequest, TimedOut, LoginRefused, SyncPending),
    },
)
async def list_messages(request: Request, account_id: ReadableAccount, caller: CurrentCaller) -> Response:
    """Messages of a mailbox, or of all of them. With `Cache-Control: no-cache` the mail server is asked first.

    The answer has an ETag unless it shows a message whose `preview` is null.
    """
    query = query_of(request, ListQuery)
    order = query.order(is_forced=is_forced(request))
    return await _list(request, account_id, caller, order, query.shown(), has_text=query.q is not None)


@router.post(
    "/search",
    operation_id="searchMessages",
    response_model=MessagePage,
    responses=problems(MailboxNotFound, StateExpired, InvalidRequest, SyncPending, *ORIGIN),
)
async def search_messages(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    search: SearchRequest,
    count: Annotated[CountText | None, Query(description="Adds `total`")] = None,
) -> Response:
    """Messages that a filter finds. Texts that are not in the full-text index are looked for where the mail lives."""
    with parameters_in_body():
        order = search.order(count, is_forced=is_forced(request))
        return await _list(request, account_id, caller, order, search.shown(), has_text=search.q is not None)


async def _list(
    request: Request, account_id: AccountId, caller: Caller, order: ListOrder, view: View, *, has_text: bool
) -> Response:
    services = services_of(request)
    prepared = await services.listing.prepare(account_id, caller, order)
    state = services.states.issue(account_id, prepared.standing.position)
    if request.method == "GET" and is_unchanged(request, state):
        return not_modified(state)
    page = await services.listing.page(prepared)
    items = await services.views.listed(account_id, caller, page.items, view, order.tree)
    headers = {"Cache-Control": PRIVATE}
    if not awaits_previews(one.summary for one in page.items):
        headers["ETag"] = f'"{state}"'
    if request.method == "GET" and (page.next_cursor or page.prev_cursor):
        headers["Link"] = link_of(request, page.next_cursor, page.prev_cursor)
    shown = filter_shown(prepared.order.tree) if has_text else None
    return Response(page_bytes(items, page, state, shown), headers=headers, media_type="application/json")


def awaits_previews(items: Iterable[bytes]) -> bool:
    """Whether a preview of a list has not been read: such a list has no ETag.

    The preview comes without an event, so the list changes while the state stays the same.
    """
    return any(b'"preview":null' in one for one in items)


def indexed_shown(indexed: tuple[int, int] | None) -> dict[str, int] | None:
    """An Indexed object."""
    return None if indexed is None else {"messages": indexed[0], "of": indexed[1]}


def page_bytes(items: list[bytes], page: ListPage, state: str, shown: dict[str, Any] | None = None) -> bytes:
    """A MessagePage or ThreadPage around prepared objects; `shown` is what a search text was understood as."""
    rest: dict[str, Any] = {
        "next_cursor": page.next_cursor,
        "prev_cursor": page.prev_cursor,
        "state": state,
        "sync": orjson.Fragment(Sync.of(page.sync).model_dump_json()),
        "total": page.total,
        "filter": shown,
        "indexed": indexed_shown(page.indexed),
    }
    return b"".join((b'{"items":[', b",".join(items), b"],", orjson.dumps(rest)[1:]))


def is_forced(request: Request) -> bool:
    """Whether the mail server is to be asked first."""
    return "no-cache" in request.headers.get("cache-control", "")


@router.get(
    "/{message_id}",
    operation_id="getMessage",
    response_model=Message,
    openapi_extra=parameters_of(GetQuery),
    responses={**NOT_MODIFIED, **problems(MessageNotFound, InvalidRequest, *ORIGIN)},
)
async def get_message(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    message_id: str,
) -> Response:
    """One message; `view=full` with its body, sanitised, and its attachments."""
    services, view = services_of(request), query_of(request, GetQuery).shown()
    message = await services.content.message(account_id, caller, message_id)
    etag = _etag(message, view)
    if is_unchanged(request, etag):
        return not_modified(etag)
    return await _shown(services, caller, message, view, await services.events.position(account_id))


@router.patch(
    "/{message_id}",
    operation_id="updateMessage",
    response_model=MessageSummary,
    responses=problems(MessageNotFound, MailboxNotFound, PreconditionFailed, Conflict, InvalidRequest, *ORIGIN),
)
async def update_message(
    request: Request,
    account_id: ModifiableAccount,
    caller: CurrentCaller,
    message_id: str,
    order: ChangeRequest,
) -> Response:
    """Change keywords, move it to another mailbox. With If-Match only if it is still as known."""
    services = services_of(request)
    changed = await services.messages.change(account_id, caller, message_id, order.change(), _versions(request))
    return await _after(services, caller, changed)


@router.delete(
    "/{message_id}",
    operation_id="deleteMessage",
    response_model=MessageSummary,
    responses={
        204: {"description": "Removed for good"},
        **problems(MessageNotFound, PreconditionFailed, InvalidRequest, *ORIGIN),
    },
)
async def delete_message(
    request: Request,
    account_id: DeletableAccount,
    caller: CurrentCaller,
    message_id: str,
    permanent: Annotated[bool, Query(description="Do not keep it in Trash")] = False,
) -> Response:
    """Move a message to Trash; one that is there already, or with `permanent=true`, is removed for good."""
    services = services_of(request)
    changed = await services.messages.remove(
        account_id, caller, message_id, is_permanent=permanent, versions=_versions(request)
    )
    if changed.message is None:
        state = services.states.issue(account_id, changed.position)
        return Response(status_code=204, headers={STATE_HEADER: state})
    return await _after(services, caller, changed)


async def _after(services: Services, caller: Caller, changed: Changed) -> Response:
    assert changed.message is not None
    return await _shown(services, caller, changed.message, SUMMARY, changed.position)


async def _shown(
    services: Services, caller: Caller, message: types.Message, view: View, position: types.Position, status: int = 200
) -> Response:
    headers = etag_headers(_etag(message, view)) | {STATE_HEADER: services.states.issue(message.account_id, position)}
    content = await services.views.one(message, caller, view)
    return Response(content, status, headers, media_type="application/json")


def _etag(message: types.Message, view: View) -> str:
    """Its version and view; a preview that was read later makes another representation of the same version."""
    return f"{message.version}-{view.name}" + ("" if message.preview is not None else "-unread")


def _versions(request: Request) -> set[int] | None:
    """The versions that If-Match names; None where any will do."""
    tags = if_match(request)
    if tags is None:
        return None
    return {int(found[1]) for tag in tags if (found := _VERSION.fullmatch(tag))}
