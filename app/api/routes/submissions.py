"""Sending: accept a message, follow its submission, reschedule and cancel it."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Request, Response

from app.api.conditions import STATE_HEADER
from app.api.deps import CurrentCaller, SendingAccount
from app.api.idempotency import Once, answer_of
from app.api.paging import Cursor, Limit, add_link
from app.api.problems import problems
from app.api.queries import METADATA_PARAMETER, metadata_query
from app.api.routing import Router
from app.api.schemas.submissions import RescheduleRequest, SendRequest, Submission, SubmissionList
from app.api.services import AccountsService, AccountStanding, ComposerService, SubmissionsService
from app.errors import (
    Conflict,
    InvalidRequest,
    MessageNotFound,
    NotPermitted,
    NotSupported,
    StateExpired,
    SubmissionNotFound,
)
from app.mail.types import Address
from app.services.access.idempotency import Answer, Attempt
from app.services.sending.submissions import SubmissionState

router = Router(prefix="/v1/accounts/{account_id}", tags=["sending"])


@router.post(
    "/send",
    operation_id="sendMessage",
    status_code=202,
    response_model=Submission,
    responses=problems(MessageNotFound, NotPermitted, InvalidRequest, NotSupported),
)
async def send_message(
    account_id: SendingAccount,
    caller: CurrentCaller,
    body: SendRequest,
    once: Once,
    accounts: AccountsService,
    composer: ComposerService,
    submissions: SubmissionsService,
    standing: AccountStanding,
) -> Response:
    """Send a message. When the answer arrives, the message is on disk and queued.

    With an Idempotency-Key a repeated request sends it once, also with a new token of the same sign-in.
    """
    if body.dsn:
        raise NotSupported("Delivery reports cannot be requested yet")

    account = await accounts.get(account_id)
    own, wanted = Address(account.name, account.email), body.value()
    await composer.check_rights(account_id, own, caller, wanted)

    async def work(attempt: Attempt) -> Answer:
        seeded = replace(wanted, seed=attempt.seed)
        new = await composer.submission(account_id, own, caller, seeded)
        return _accepted(await submissions.take(account_id, new, attempt, _accepted))

    response = await once.run(work)
    response.headers[STATE_HEADER] = await standing.state()
    return response


def _accepted(state: SubmissionState) -> Answer:
    return answer_of(202, Submission.of(state))


@router.get(
    "/submissions",
    operation_id="listSubmissions",
    openapi_extra=METADATA_PARAMETER,
    responses=problems(StateExpired, InvalidRequest),
)
async def list_submissions(
    request: Request,
    response: Response,
    account_id: SendingAccount,
    caller: CurrentCaller,
    standing: AccountStanding,
    submissions: SubmissionsService,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> SubmissionList:
    """List the submissions of the account, newest first."""
    state = await standing.state()
    sync = await standing.sync()
    after = None
    if cursor is not None:
        created_at_ms, id_ = standing.open_cursor("submissions", cursor)
        after = (int(created_at_ms), str(id_))
    shown, last = await submissions.page(account_id, caller, limit, after, metadata_query(request))
    next_cursor = standing.seal_cursor("submissions", last) if last else None
    add_link(request, response, next_cursor)
    items = [Submission.of(submission_state) for submission_state in shown]
    return SubmissionList(items=items, next_cursor=next_cursor, state=state, sync=sync)


@router.get("/submissions/{submission_id}", operation_id="getSubmission", responses=problems(SubmissionNotFound))
async def get_submission(
    response: Response,
    account_id: SendingAccount,
    caller: CurrentCaller,
    submission_id: str,
    standing: AccountStanding,
    submissions: SubmissionsService,
) -> Submission:
    """Get one submission with the state of each recipient."""
    response.headers[STATE_HEADER] = await standing.state()
    return Submission.of(await submissions.get(account_id, submission_id, caller))


@router.patch(
    "/submissions/{submission_id}",
    operation_id="rescheduleSubmission",
    responses=problems(SubmissionNotFound, Conflict, InvalidRequest),
)
async def reschedule_submission(
    response: Response,
    account_id: SendingAccount,
    caller: CurrentCaller,
    submission_id: str,
    body: RescheduleRequest,
    submissions: SubmissionsService,
    standing: AccountStanding,
) -> Submission:
    """Change the time of sending. Possible until the first attempt."""
    send_at_ms = round(body.send_at.timestamp() * 1000)
    submission = await submissions.reschedule(account_id, submission_id, caller, send_at_ms)
    response.headers[STATE_HEADER] = await standing.state()
    return Submission.of(submission)


@router.delete(
    "/submissions/{submission_id}",
    operation_id="cancelSubmission",
    responses=problems(SubmissionNotFound, Conflict),
)
async def cancel_submission(
    response: Response,
    account_id: SendingAccount,
    caller: CurrentCaller,
    submission_id: str,
    submissions: SubmissionsService,
    standing: AccountStanding,
) -> Submission:
    """Cancel the submission. Possible until the first attempt."""
    cancelled = await submissions.cancel(account_id, submission_id, caller)
    response.headers[STATE_HEADER] = await standing.state()
    return Submission.of(cancelled)
