"""Bulk operations on messages: move, copy, change, get. Each message has its own result; the request succeeds."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request, Response

from app.api.deps import CurrentCaller, ModifiableAccount, ReadableAccount
from app.api.idempotency import Once, answer_of
from app.api.problems import parameters_in_body, problem_of, problems
from app.api.routes.messages import ORIGIN
from app.api.routing import Router
from app.api.schemas.message_requests import BatchGetRequest, BatchRequest, TransferRequest
from app.api.schemas.messages import BulkAnswer
from app.api.services import AccountStanding, BulkService, ContentService, MailboxesService, ViewsService
from app.api.standing import Standing
from app.errors import (
    Conflict,
    IdempotencyRunning,
    InvalidRequest,
    MailboxNotFound,
    MessageNotFound,
    NotPermitted,
    SearchIncomplete,
    TooLarge,
)
from app.services.access.callers import Caller, Scope
from app.services.access.idempotency import Answer, Attempt, hash_payload
from app.services.changing.bulk import BulkResult, Deletion
from app.services.reading.views import FULL_LIMIT

router = Router(prefix="/v1/accounts/{account_id}/messages", tags=["messages"])


@router.post(
    "/move",
    operation_id="moveMessages",
    response_model=BulkAnswer,
    responses=problems(MailboxNotFound, Conflict, InvalidRequest, *ORIGIN),
)
async def move_messages(
    account_id: ModifiableAccount,
    caller: CurrentCaller,
    body: TransferRequest,
    bulk: BulkService,
    standing: AccountStanding,
) -> Response:
    """Move messages to another mailbox of the account. They keep their ids. Safe to repeat."""
    return bulk_response(standing, await bulk.move(account_id, caller, body.message_ids, body.mailbox_id))


@router.post(
    "/copy",
    operation_id="copyMessages",
    response_model=BulkAnswer,
    responses=problems(MailboxNotFound, Conflict, IdempotencyRunning, InvalidRequest, *ORIGIN),
)
async def copy_messages(
    request: Request,
    account_id: ModifiableAccount,
    caller: CurrentCaller,
    body: TransferRequest,
    once: Once,
    mailboxes: MailboxesService,
    bulk: BulkService,
    standing: AccountStanding,
) -> Response:
    """Copy messages to another mailbox of the account. Each result has the id of the copy."""
    mailbox_id = await mailboxes.id_of(account_id, caller, body.mailbox_id)

    async def work(attempt: Attempt) -> Answer:
        result = await bulk.copy(account_id, caller, body.message_ids, mailbox_id, attempt)
        return answer_of(200, _content(standing, result))

    return await once.run(work, payload_hash=await _payload(request, caller))


@router.post(
    "/batch",
    operation_id="batchMessages",
    response_model=BulkAnswer,
    responses=problems(
        MailboxNotFound, NotPermitted, Conflict, IdempotencyRunning, TooLarge, InvalidRequest, SearchIncomplete, *ORIGIN
    ),
)
async def batch_messages(
    request: Request,
    account_id: ModifiableAccount,
    caller: CurrentCaller,
    body: BatchRequest,
    once: Once,
    bulk: BulkService,
    standing: AccountStanding,
) -> Response:
    """Change keywords of, move or delete many messages, by id or by filter. Deleting also needs `mail.delete`.

    Messages that are already in Trash are deleted permanently. Send an Idempotency-Key, so that a repeated request
    does not delete what the first one moved to Trash.
    """
    if body.delete is not None:
        caller.require(Scope.MAIL_DELETE)

    async def work(attempt: Attempt) -> Answer:
        ids: list[str] = list(body.message_ids or ())
        if body.filter is not None:
            ids = list(await bulk.matching(account_id, caller, body.filter.value()))
        if body.delete is not None:
            how: Deletion = "permanent" if body.delete == "permanent" else "trash"
            result = await bulk.remove(account_id, caller, ids, how, attempt)
        else:
            result = await bulk.change(account_id, caller, ids, body.change())
        return answer_of(200, _content(standing, result))

    return await once.run(work, payload_hash=await _payload(request, caller))


async def _payload(request: Request, caller: Caller) -> str:
    """Hash the request and the caller's mailboxes: the answer reveals which messages the caller can see."""
    visible_mailboxes = b"" if caller.mailbox_ids is None else orjson.dumps(sorted(caller.mailbox_ids))
    return hash_payload(request.url.query.encode(), await request.body(), visible_mailboxes)


@router.post(
    "/batch-get",
    operation_id="batchGetMessages",
    response_model=BulkAnswer,
    responses=problems(InvalidRequest, *ORIGIN),
)
async def batch_get_messages(
    account_id: ReadableAccount,
    caller: CurrentCaller,
    body: BatchGetRequest,
    content: ContentService,
    views: ViewsService,
    standing: AccountStanding,
) -> Response:
    """Get many messages by id."""
    with parameters_in_body():
        view = body.requested_view()
    if view.is_limited and len(body.message_ids) > FULL_LIMIT:
        raise InvalidRequest.at("/message_ids", f"With bodies or headers, at most {FULL_LIMIT} are allowed")
    position = await standing.position()
    messages = await content.messages(account_id, caller, body.message_ids)
    objects = await views.rendered(account_id, caller, messages, view)
    bodies = {message.id: rendered for message, rendered in zip(messages, objects, strict=True)}
    result = BulkResult(list(dict.fromkeys(body.message_ids)), position)
    result.errors = {id_: MessageNotFound() for id_ in result.ids if id_ not in bodies}
    answer = _content(standing, result, {id_: orjson.Fragment(rendered) for id_, rendered in bodies.items()})
    return Response(answer, media_type="application/json")


def bulk_response(standing: Standing, result: BulkResult) -> Response:
    """Return the response to a change of many messages."""
    return Response(_content(standing, result), media_type="application/json")


def _content(standing: Standing, result: BulkResult, bodies: dict[str, orjson.Fragment] | None = None) -> bytes:
    """Return a BulkAnswer."""
    results: list[dict[str, Any]] = []
    for id_ in result.ids:
        error = result.errors.get(id_)
        item: dict[str, Any] = {"id": id_, "status": 200}
        if error is not None:
            problem = problem_of(error)
            item |= {"status": problem["status"], "problem": problem}
        elif id_ in result.new_ids:
            item["new_id"] = result.new_ids[id_]
        elif bodies is not None:
            item["message"] = bodies[id_]
        results.append(item)
    failed = sum(id_ in result.errors for id_ in result.ids)
    summary = {"ok": len(results) - failed, "failed": failed}
    assert result.position is not None
    state = standing.at(result.position)
    return orjson.dumps({"results": results, "summary": summary, "state": state})
