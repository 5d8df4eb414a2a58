"""Mailboxes of an account."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.conditions import STATE_HEADER, is_unchanged, not_modified
from app.api.deps import CurrentCaller, MailboxesAccount, ReadableAccount
from app.api.idempotency import Once, answer_of
from app.api.paging import Cursor, OptionalLimit, whole_list
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.mailboxes import CreateMailbox, Mailbox, MailboxList, UpdateMailbox
from app.api.services import AccountStanding, MailboxesService
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
    responses={
        304: {"description": "Not modified"},
        **problems(StateExpired, InvalidRequest, LoginRefused, SyncPending),
    },
)
async def list_mailboxes(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    mailboxes: MailboxesService,
    standing: AccountStanding,
    limit: OptionalLimit = None,
    cursor: Cursor = None,
) -> Response:
    """List the mailboxes that the token can see, sorted by path. Without `limit` the response has all."""
    await mailboxes.refresh(account_id)
    state = await standing.state()
    if is_unchanged(request, state):
        return not_modified(state)
    after = None if cursor is None else str(standing.open_cursor("mailboxes", cursor))
    rows, last = await mailboxes.page(account_id, caller, limit, after)
    next_cursor = None if last is None else standing.seal_cursor("mailboxes", last)
    answer = MailboxList(
        items=[Mailbox.of(mailbox) for mailbox in rows],
        next_cursor=next_cursor,
        state=state,
        sync=await standing.sync(),
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
    account_id: MailboxesAccount,
    caller: CurrentCaller,
    body: CreateMailbox,
    once: Once,
    mailboxes: MailboxesService,
    standing: AccountStanding,
) -> Response:
    """Create a mailbox."""
    mailboxes.check_creation(caller)

    def answer_for(made: mail.Mailbox, position: mail.Position) -> Answer:
        location = f"/v1/accounts/{account_id}/mailboxes/{made.id}"
        state = standing.at(position)
        return answer_of(201, Mailbox.of(made), {"Location": location, STATE_HEADER: state})

    async def work(attempt: Attempt) -> Answer:
        new = NewMailbox(body.name, body.parent_id, body.role)
        return await mailboxes.create(account_id, new, caller, attempt, answer_for)

    return await once.run(work)


@router.get("/{mailbox_id}", operation_id="getMailbox", responses=problems(MailboxNotFound))
async def get_mailbox(
    response: Response,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    mailbox_id: str,
    mailboxes: MailboxesService,
    standing: AccountStanding,
) -> Mailbox:
    """Get one mailbox."""
    await mailboxes.refresh(account_id)
    response.headers[STATE_HEADER] = await standing.state()
    return Mailbox.of(await mailboxes.get(account_id, mailbox_id, caller))


@router.patch(
    "/{mailbox_id}",
    operation_id="updateMailbox",
    responses=problems(MailboxNotFound, AlreadyExists, Conflict, InvalidRequest, *_ORIGIN),
)
async def update_mailbox(
    response: Response,
    account_id: MailboxesAccount,
    caller: CurrentCaller,
    mailbox_id: str,
    body: UpdateMailbox,
    mailboxes: MailboxesService,
    standing: AccountStanding,
) -> Mailbox:
    """Rename or move a mailbox, change its subscription, or set its role."""
    mailbox = await mailboxes.update(account_id, mailbox_id, body.changes(), caller)
    response.headers[STATE_HEADER] = await standing.state()
    return Mailbox.of(mailbox)


@router.delete(
    "/{mailbox_id}",
    operation_id="deleteMailbox",
    status_code=204,
    responses=problems(MailboxNotFound, Conflict, *_ORIGIN),
)
async def delete_mailbox(
    response: Response,
    account_id: MailboxesAccount,
    caller: CurrentCaller,
    mailbox_id: str,
    mailboxes: MailboxesService,
    standing: AccountStanding,
) -> None:
    """Delete a mailbox and its messages. INBOX and mailboxes with child mailboxes cannot be deleted."""
    await mailboxes.remove(account_id, mailbox_id, caller)
    response.headers[STATE_HEADER] = await standing.state()
