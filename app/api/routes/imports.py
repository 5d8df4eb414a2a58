"""Imports messages into a mailbox, raw or composed from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.api.conditions import STATE_HEADER
from app.api.deps import CurrentCaller, ModifiableAccount
from app.api.idempotency import IdempotentRequest, Once, answer_of
from app.api.problems import problems
from app.api.queries import parameters_of, query_of
from app.api.routes.messages import ORIGIN
from app.api.routing import Router
from app.api.schemas.filters import KEYWORD_PATTERN
from app.api.schemas.message_requests import ImportedMessage, ImportQuery
from app.api.schemas.messages import MessageSummary
from app.api.services import AccountsService, AccountStanding, ComposerService, ImportsService, MailboxesService
from app.api.standing import Standing
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
from app.mail.summaries import shown_summary
from app.mail.types import AccountId, Address
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt, hash_payload
from app.services.changing.imports import Imported, ImportOrder, Imports, Spool
from app.services.changing.messages import KEYWORDS_LIMIT, flags_of_keywords
from app.services.sending.composing import Composer, NewMessage

router = Router(prefix="/v1/accounts/{account_id}/messages", tags=["messages"])

JSON_LIMIT_BYTES = 50 * 1024 * 1024
PIECE_BYTES = 256 * 1024
_KEYWORD = re.compile(KEYWORD_PATTERN)


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "message/rfc822": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/MessageInput"}},
        },
    }
}


@router.post(
    "",
    operation_id="importMessage",
    status_code=201,
    response_model=MessageSummary,
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
    mailboxes: MailboxesService,
    imports: ImportsService,
    accounts: AccountsService,
    composer: ComposerService,
    standing: AccountStanding,
) -> Response:
    """Add a message to a mailbox: raw bytes (only line ends are changed), or a message written as JSON.

    With an Idempotency-Key a repeated request adds it once.
    """
    order = _order(query_of(request, ImportQuery))
    mailbox_id = await mailboxes.id_of(account_id, caller, order.mailbox_id)
    target = _Target(account_id, caller, replace(order, mailbox_id=mailbox_id), imports, standing)
    match _media_type(request):
        case "message/rfc822" | "application/octet-stream":
            return await _import_raw(request, once, target)
        case "application/json":
            account = await accounts.get(account_id)
            return await _import_written(request, once, target, composer, Address(account.name, account.email))
        case _:
            raise UnsupportedMedia("The body must be message/rfc822 or application/json")


@dataclass(frozen=True, slots=True)
class _Target:
    """The mailbox, caller and account of an import."""

    account_id: AccountId
    caller: Caller
    order: ImportOrder
    imports: Imports
    standing: Standing

    async def add(self, spool: Spool, attempt: Attempt) -> Answer:
        """Store the spooled message and return its summary."""
        return await self.imports.add(self.account_id, self.caller, self.order, spool, attempt, self._answer)

    def _answer(self, imported: Imported) -> Answer:
        headers = {
            "Location": f"/v1/accounts/{self.account_id}/messages/{imported.message.id}",
            STATE_HEADER: self.standing.at(imported.position),
        }
        return answer_of(201, shown_summary(imported.message.summary), headers)


async def _import_raw(request: Request, once: IdempotentRequest, target: _Target) -> Response:
    spool = await target.imports.spooled(request.stream())
    payload = hash_payload(request.url.query.encode(), spool.hash.encode())
    return await once.run(partial(target.add, spool), payload_hash=payload, release=spool.close)


async def _import_written(
    request: Request, once: IdempotentRequest, target: _Target, composer: Composer, own: Address
) -> Response:
    """Compose and import the message of a JSON body, with the same bytes in every attempt."""
    message = await _message_of(request)
    await composer.check_rights(target.account_id, own, target.caller, message)

    async def work(attempt: Attempt) -> Answer:
        date_ms = attempt.begun_at_ms if message.date_ms is None else message.date_ms
        seeded = replace(message, seed=attempt.seed, date_ms=date_ms)
        content = await composer.content(target.account_id, own, target.caller, seeded)
        spool = await target.imports.spooled(_in_pieces(content))
        try:
            return await target.add(spool, attempt)
        finally:
            spool.close()

    return await once.run(work)


def _order(query: ImportQuery) -> ImportOrder:
    keywords = [text.strip() for text in query.keywords.split(",") if text.strip()]
    if len(keywords) > KEYWORDS_LIMIT or not all(_KEYWORD.fullmatch(keyword) for keyword in keywords):
        raise InvalidRequest.parameter("keywords", f"Must be at most {KEYWORDS_LIMIT} IMAP atoms, separated by commas")
    received_at_ms = None if query.received_at is None else round(query.received_at.timestamp() * 1000)
    return ImportOrder(query.mailbox_id, flags_of_keywords(keywords), received_at_ms)


async def _message_of(request: Request) -> NewMessage:
    try:
        return ImportedMessage.model_validate(await request.json()).value()
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "msg": error.msg, "input": {}}
        raise RequestValidationError([fault]) from None
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults) from None


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
