"""Mailboxes of an account."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.conditions import STATE_HEADER, is_unchanged, not_modified
from app.api.deps import CurrentCaller, MailboxesAccount, ReadableAccount, services_of, state_of
from app.api.once import Once, answer_of
from app.api.paging import Cursor, OptionalLimit, whole_list
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.base import Sync
from app.api.schemas.mailboxes import CreateMailbox, Mailbox, MailboxList, UpdateMailbox
from app.errors import (
    AlreadyExists,
    Conflict,
    IdempotencyRunning,
    InvalidRequest,
    LoginRefused,
    MailboxNotFound,
    ServerProtocolError,
    ServerRefused,
    StateExpired,
    SyncPending,
    TimedOut,
    Unreachable,
)
from app.mail import types as mail
from app.services.access.idempotency import Answer, Attempt
from app.services.changing.mailboxes import NewMailbox

router = Router(prefix="/v1/accounts/{account_id}/mailboxes", tags=["mailboxes"])
_ORIGIN = (ServerRefused, ServerProtocolError, Unreachable, TimedOut)


@router.get(
    "",
    operation_id="listMailboxes",
    response_model=MailboxList,
    responses={304: {"description": "As known"}, **problems(StateExpired, InvalidRequest, LoginRefused, SyncPending)},
)
async def list_mailboxes(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    limit: OptionalLimit = None,
    cursor: Cursor = None,
) -> Response:
    """The mailboxes that the token may see, by path: all of them unless `limit` says how many."""
    services = services_of(request)
    await services.mailboxes.refresh(account_id)
    state = await state_of(services, account_id)
    if is_unchanged(request, state):
        return not_modified(state)
    after = None if cursor is None else str(services.states.open_cursor("mailboxes", cursor, account_id))
    mailboxes, last = await services.mailboxes.page(account_id, caller, limit, after)
    next_cursor = None if last is None else services.states.seal_cursor("mailboxes", account_id, last)
    answer = MailboxList(
        items=[Mailbox.of(mailbox) for mailbox in mailboxes],
        next_cursor=next_cursor,
        state=state,
        sync=Sync.of(await services.accounts.sync(account_id)),
    )
    return whole_list(request, answer, state, next_cursor)


@router.post(
    "",
    operation_id="createMailbox",
    status_code=201,
    response_model=Mailbox,
    responses=problems(AlreadyExists, IdempotencyRunning, InvalidRequest, *_ORIGIN),
)
async def create_mailbox(
    request: Request, account_id: MailboxesAccount, caller: CurrentCaller, order: CreateMailbox, once: Once
) -> Response:
    """Create a mailbox where the mail lives."""
    services = services_of(request)
    services.mailboxes.check_creation(caller)

    def answer_for(made: mail.Mailbox, position: mail.Position) -> Answer:
        location = f"/v1/accounts/{account_id}/mailboxes/{made.id}"
        state = services.states.issue(account_id, position)
        return answer_of(201, Mailbox.of(made), {"Location": location, STATE_HEADER: state})

    async def work(attempt: Attempt) -> Answer:
        new = NewMailbox(order.name, order.parent_id, order.role)
        return await services.mailboxes.create(account_id, new, caller, attempt, answer_for)

    return await once.run(work)


@router.get("/{mailbox_id}", operation_id="getMailbox", responses=problems(MailboxNotFound))
async def get_mailbox(
    request: Request, response: Response, account_id: ReadableAccount, caller: CurrentCaller, mailbox_id: str
) -> Mailbox:
    """One mailbox."""
    services = services_of(request)
    await services.mailboxes.refresh(account_id)
    response.headers[STATE_HEADER] = await state_of(services, account_id)
    return Mailbox.of(await services.mailboxes.get(account_id, mailbox_id, caller))


@router.patch(
    "/{mailbox_id}",
    operation_id="updateMailbox",
    responses=problems(MailboxNotFound, AlreadyExists, Conflict, InvalidRequest, *_ORIGIN),
)
async def update_mailbox(
    request: Request,
    response: Response,
    account_id: MailboxesAccount,
    caller: CurrentCaller,
    mailbox_id: str,
    order: UpdateMailbox,
) -> Mailbox:
    """Rename a mailbox, move it below another one, subscribe to it, give it a role."""
    services = services_of(request)
    mailbox = await services.mailboxes.update(account_id, mailbox_id, order.changes(), caller)
    response.headers[STATE_HEADER] = await state_of(services, account_id)
    return Mailbox.of(mailbox)


@router.delete(
    "/{mailbox_id}",
    operation_id="deleteMailbox",
    status_code=204,
    responses=problems(MailboxNotFound, Conflict, *_ORIGIN),
)
async def delete_mailbox(
    request: Request, response: Response, account_id: MailboxesAccount, caller: CurrentCaller, mailbox_id: str
) -> None:
    """Delete a mailbox with its messages. INBOX stays, and so does one with others below it."""
    services = services_of(request)
    await services.mailboxes.remove(account_id, mailbox_id, caller)
    response.headers[STATE_HEADER] = await state_of(services, account_id)
