"""Messages of an account: list, search, get, change and delete."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Query, Request, Response

from app.api.conditions import STATE_HEADER, etag_headers, if_match, is_unchanged, not_modified
from app.api.deps import CurrentCaller, DeletableAccount, ModifiableAccount, ReadableAccount
from app.api.message_lists import is_forced
from app.api.problems import parameters_in_body, problems
from app.api.queries import parameters_of, query_of
from app.api.routing import Router
from app.api.schemas.message_requests import ChangeRequest, CountText, GetQuery, ListQuery, SearchRequest
from app.api.schemas.messages import Message, MessagePage, MessageSummary
from app.api.services import (
    AccountStanding,
    ContentService,
    MessageListsService,
    MessagesService,
    ViewsService,
)
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
from app.services.reading.views import SUMMARY, View

router = Router(prefix="/v1/accounts/{account_id}/messages", tags=["messages"])
ORIGIN = (LoginRefused, ServerRefused, ServerProtocolError, Unreachable, TimedOut)
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not modified"}}
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
async def list_messages(
    request: Request, _account: ReadableAccount, caller: CurrentCaller, lists: MessageListsService
) -> Response:
    """List the messages of one mailbox or of all. `Cache-Control: no-cache` asks the mail server first.

    The answer has an ETag unless it has a message whose `preview` is null.
    """
    query = query_of(request, ListQuery)
    order = query.order(is_forced=is_forced(request))
    return await lists.answer(request, caller, order, query.requested_view(), has_text=query.q is not None)


@router.post(
    "/search",
    operation_id="searchMessages",
    response_model=MessagePage,
    responses=problems(MailboxNotFound, StateExpired, InvalidRequest, SyncPending, *ORIGIN),
)
async def search_messages(
    request: Request,
    _account: ReadableAccount,
    caller: CurrentCaller,
    search: SearchRequest,
    lists: MessageListsService,
    count: Annotated[CountText | None, Query(description="Adds `total`")] = None,
) -> Response:
    """Find messages by a filter. Texts that are not in the full-text index are searched on the mail server."""
    with parameters_in_body():
        order = search.order(count, is_forced=is_forced(request))
        return await lists.answer(request, caller, order, search.requested_view(), has_text=search.q is not None)


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
    content: ContentService,
    views: ViewsService,
    standing: AccountStanding,
) -> Response:
    """Get one message. `view=full` includes the sanitised body and the attachments."""
    view = query_of(request, GetQuery).requested_view()
    message = await content.message(account_id, caller, message_id)
    etag = _etag(message, view)
    if is_unchanged(request, etag):
        return not_modified(etag)
    state = await standing.state()
    return _message_response(message, view, await views.one(message, caller, view), state)


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
    body: ChangeRequest,
    messages: MessagesService,
    views: ViewsService,
    standing: AccountStanding,
) -> Response:
    """Change keywords, or move the message to another mailbox. If-Match makes the change conditional."""
    changed = await messages.change(account_id, caller, message_id, body.change(), _versions(request))
    assert changed.message is not None  # None only after a deletion
    content = await views.one(changed.message, caller, SUMMARY)
    return _message_response(changed.message, SUMMARY, content, standing.at(changed.position))


@router.delete(
    "/{message_id}",
    operation_id="deleteMessage",
    response_model=MessageSummary,
    responses={
        204: {"description": "Deleted permanently"},
        **problems(MessageNotFound, PreconditionFailed, InvalidRequest, *ORIGIN),
    },
)
async def delete_message(
    request: Request,
    account_id: DeletableAccount,
    caller: CurrentCaller,
    message_id: str,
    messages: MessagesService,
    views: ViewsService,
    standing: AccountStanding,
    permanent: Annotated[bool, Query(description="Delete it permanently instead of moving it to Trash")] = False,
) -> Response:
    """Move a message to Trash. Delete it permanently if it is already there, or with `permanent=true`."""
    changed = await messages.remove(account_id, caller, message_id, is_permanent=permanent, versions=_versions(request))
    state = standing.at(changed.position)
    if changed.message is None:
        return Response(status_code=204, headers={STATE_HEADER: state})
    content = await views.one(changed.message, caller, SUMMARY)
    return _message_response(changed.message, SUMMARY, content, state)


def _message_response(message: types.Message, view: View, content: bytes, state: str) -> Response:
    headers = etag_headers(_etag(message, view)) | {STATE_HEADER: state}
    return Response(content, headers=headers, media_type="application/json")


def _etag(message: types.Message, view: View) -> str:
    """Return the ETag: version and view; a preview read later is another representation of the same version."""
    return f"{message.version}-{view.name}" + ("" if message.preview is not None else "-unread")


def _versions(request: Request) -> set[int] | None:
    """Return the versions that If-Match names; None if any version matches."""
    tags = if_match(request)
    if tags is None:
        return None
    return {int(match[1]) for tag in tags if (match := _VERSION.fullmatch(tag))}
