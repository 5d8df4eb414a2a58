"""Threads of an account: list, get, change and delete."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Query, Request, Response

from app.api.conditions import PRIVATE, STATE_HEADER, etag_headers, is_unchanged, not_modified
from app.api.deps import CurrentCaller, DeletableAccount, ModifiableAccount, ReadableAccount
from app.api.message_lists import awaits_previews, is_forced, page_bytes
from app.api.paging import link_of
from app.api.problems import problems
from app.api.queries import parameters_of, query_of
from app.api.routes.bulk import bulk_response
from app.api.routes.messages import NOT_MODIFIED, ORIGIN
from app.api.routing import Router
from app.api.schemas.filter_answers import filter_as_json
from app.api.schemas.message_requests import ChangeRequest
from app.api.schemas.messages import BulkAnswer
from app.api.schemas.threads import ThreadPage, ThreadQuery, ThreadWithMessages
from app.api.services import AccountStanding, ListingService, ThreadsService
from app.errors import Conflict, InvalidRequest, MailboxNotFound, StateExpired, ThreadNotFound, TimedOut

router = Router(prefix="/v1/accounts/{account_id}/threads", tags=["threads"])
_ETAG_DIGITS = 24


@router.get(
    "",
    operation_id="listThreads",
    response_model=ThreadPage,
    openapi_extra=parameters_of(ThreadQuery),
    responses={**NOT_MODIFIED, **problems(MailboxNotFound, StateExpired, InvalidRequest, TimedOut)},
)
async def list_threads(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    listing: ListingService,
    standing: AccountStanding,
    threads: ThreadsService,
) -> Response:
    """List threads with a message that meets the conditions, sorted by the newest such message."""
    query = query_of(request, ThreadQuery)
    order = query.order(is_forced=is_forced(request))
    prepared = await listing.prepare(account_id, caller, order)
    state = standing.at(prepared.standing.position)
    if is_unchanged(request, state):
        return not_modified(state)
    page, items = await threads.page(prepared)
    headers = {"Cache-Control": PRIVATE} if awaits_previews(items) else etag_headers(state)
    if page.next_cursor or page.prev_cursor:
        headers["Link"] = link_of(request, page.next_cursor, page.prev_cursor)
    filter_json = filter_as_json(prepared.order.tree) if query.q is not None else None
    return Response(page_bytes(items, page, state, filter_json), headers=headers, media_type="application/json")


@router.get(
    "/{thread_id}",
    operation_id="getThread",
    response_model=ThreadWithMessages,
    responses={**NOT_MODIFIED, **problems(ThreadNotFound)},
)
async def get_thread(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    thread_id: str,
    threads: ThreadsService,
    standing: AccountStanding,
) -> Response:
    """Get one thread with the summaries of its messages. Ids of threads that were merged into it work too."""
    position = await standing.position()
    thread = await threads.thread(account_id, caller, thread_id)
    content = b"".join((thread.content[:-1], b',"messages":[', b",".join(thread.messages), b"]}"))
    etag = hashlib.sha256(content).hexdigest()[:_ETAG_DIGITS]
    if is_unchanged(request, etag):
        return not_modified(etag)
    headers = etag_headers(etag) | {STATE_HEADER: standing.at(position)}
    return Response(content, headers=headers, media_type="application/json")


@router.patch(
    "/{thread_id}",
    operation_id="updateThread",
    response_model=BulkAnswer,
    responses=problems(ThreadNotFound, MailboxNotFound, Conflict, InvalidRequest, *ORIGIN),
)
async def update_thread(
    account_id: ModifiableAccount,
    caller: CurrentCaller,
    thread_id: str,
    body: ChangeRequest,
    threads: ThreadsService,
    standing: AccountStanding,
) -> Response:
    """Change keywords of all messages of a thread, or move them to another mailbox."""
    return bulk_response(standing, await threads.change(account_id, caller, thread_id, body.change()))


@router.delete(
    "/{thread_id}",
    operation_id="deleteThread",
    response_model=BulkAnswer,
    responses=problems(ThreadNotFound, InvalidRequest, *ORIGIN),
)
async def delete_thread(
    account_id: DeletableAccount,
    caller: CurrentCaller,
    thread_id: str,
    threads: ThreadsService,
    standing: AccountStanding,
    permanent: Annotated[bool, Query(description="Delete them permanently instead of moving them to Trash")] = False,
) -> Response:
    """Move a thread to Trash. Messages already there, or all with `permanent=true`, are deleted permanently."""
    result = await threads.remove(account_id, caller, thread_id, "permanent" if permanent else "trash")
    return bulk_response(standing, result)
