"""Messages put into a mailbox: raw, or written as JSON."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.api.conditions import STATE_HEADER
from app.api.deps import CurrentCaller, ModifiableAccount, services_of
from app.api.once import Once, answer_of
from app.api.problems import problems
from app.api.queries import parameters_of, query_of
from app.api.routes.messages import ORIGIN
from app.api.routing import Router
from app.api.schemas.filters import KEYWORD_PATTERN
from app.api.schemas.messages import ImportedMessage, ImportQuery, Message
from app.errors import (
    Conflict,
    IdempotencyRunning,
    InvalidRequest,
    MailboxNotFound,
    NotPermitted,
    NotSupported,
    TooLarge,
    UnsupportedMedia,
)
from app.mail.types import AccountId, Address
from app.services.callers import Caller
from app.services.idempotency import Answer, Attempt, hash_payload
from app.services.imports import ImportOrder, Spool
from app.services.messages import KEYWORDS_LIMIT, flags_of_keywords

router = Router(prefix="/v1/accounts/{account_id}/messages", tags=["messages"])

JSON_LIMIT_BYTES = 50 * 1024 * 1024
_KEYWORD = re.compile(KEYWORD_PATTERN)


def _schema_of_json() -> dict[str, Any]:
    """The schema of a message as JSON; what it refers to is there by `POST /send`."""
    schema = ImportedMessage.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs")
    return schema


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "message/rfc822": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": _schema_of_json()},
        },
    }
}


@router.post(
    "",
    operation_id="importMessage",
    status_code=201,
    response_model=Message,
    openapi_extra=_BODY | parameters_of(ImportQuery),
    responses=problems(
        MailboxNotFound,
        NotPermitted,
        NotSupported,
        Conflict,
        IdempotencyRunning,
        TooLarge,
        UnsupportedMedia,
        InvalidRequest,
        *ORIGIN,
    ),
)
async def import_message(
    request: Request,
    account_id: ModifiableAccount,
    caller: CurrentCaller,
    once: Once,
) -> Response:
    """Put a message into a mailbox: its bytes as they are but for line ends, or what the JSON says."""
    order = _order(query_of(request, ImportQuery))
    caller.require_mailbox(order.mailbox_id)
    spool = await services_of(request).imports.spooled(await _pieces(request, account_id, caller))
    payload = hash_payload(request.url.query.encode(), spool.hash.encode())
    is_written = _media_type(request) == "application/json"  # anew each time: its Date and Message-ID differ
    return await once.run(
        lambda attempt: _add(request, account_id, caller, order, spool, attempt),
        payload_hash=None if is_written else payload,
        release=spool.close,
    )


async def _add(
    request: Request, account_id: AccountId, caller: Caller, order: ImportOrder, spool: Spool, attempt: Attempt
) -> Answer:
    """Once: what an attempt that broke off put in is found again by its Message-ID and size."""
    services = services_of(request)
    header = await services.imports.message_id_header(account_id, spool)
    message = None
    if attempt.is_repeated:
        message = await services.imports.find(account_id, order.mailbox_id, header, spool.size_bytes)
    position = await services.events.position(account_id)
    if message is None:
        await attempt.note({"message_id_header": header, "size_bytes": spool.size_bytes})
        imported = await services.imports.add(account_id, caller, order, spool)
        message, position = imported.message, imported.position
    headers = {
        "Location": f"/v1/accounts/{account_id}/messages/{message.id}",
        STATE_HEADER: services.states.issue(account_id, position),
    }
    return answer_of(201, message.summary, headers)


def _order(query: ImportQuery) -> ImportOrder:
    keywords = [one.strip() for one in query.keywords.split(",") if one.strip()]
    if len(keywords) > KEYWORDS_LIMIT or not all(_KEYWORD.fullmatch(one) for one in keywords):
        raise InvalidRequest.parameter("keywords", f"They are up to {KEYWORDS_LIMIT} IMAP atoms, separated by commas")
    received_at_ms = None if query.received_at is None else round(query.received_at.timestamp() * 1000)
    return ImportOrder(query.mailbox_id, flags_of_keywords(keywords), received_at_ms)


async def _pieces(request: Request, account_id: AccountId, caller: Caller) -> AsyncIterator[bytes]:
    match _media_type(request):
        case "message/rfc822" | "application/octet-stream":
            return request.stream()
        case "application/json":
            return _one_piece(await _written(request, account_id, caller))
        case _:
            raise UnsupportedMedia("The body must be message/rfc822 or application/json")


async def _written(request: Request, account_id: AccountId, caller: Caller) -> bytes:
    """The message that the JSON body describes."""
    services = services_of(request)
    try:
        wanted = ImportedMessage.model_validate_json(await request.body())
    except ValidationError as error:
        faults = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(faults) from None
    account = await services.accounts.get(account_id)
    own = Address(account.name, account.email)
    return await services.composer.content(account_id, own, caller, wanted.value())


async def _one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
