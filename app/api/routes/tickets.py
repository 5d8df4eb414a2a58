"""Stream tickets."""

from __future__ import annotations

from fastapi import Response

from app.api.deps import PushCaller
from app.api.idempotency import Once, answer_of
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.tokens import CreateTicket, Ticket
from app.api.services import TicketsService
from app.errors import IdempotencyRunning, InvalidRequest
from app.services.access.idempotency import Answer, Attempt
from app.services.access.tickets import TICKET_SECONDS

router = Router(prefix="/v1/stream/tickets", tags=["events"])


@router.post(
    "",
    operation_id="createStreamTicket",
    status_code=201,
    response_model=Ticket,
    responses=problems(IdempotencyRunning, InvalidRequest),
)
async def create_stream_ticket(
    caller: PushCaller, once: Once, tickets: TicketsService, _: CreateTicket | None = None
) -> Response:
    """Create a ticket that opens a stream once, within 30 s, for clients that cannot set headers."""

    async def work(attempt: Attempt) -> Answer:
        return _issued(await tickets.issue(caller, attempt=attempt, answer=_issued))

    # a ticket has the rights of one token, so another token never gets it
    return await once.run(work, is_secret=True, caller=f"token {caller.token_id}")


def _issued(ticket: str) -> Answer:
    return answer_of(201, Ticket(ticket=ticket, expires_in=TICKET_SECONDS))
