"""Tickets for the stream."""

from __future__ import annotations

from fastapi import APIRouter, Request

from app.api.deps import PushCaller, services_of
from app.api.schemas.tokens import CreateTicket, Ticket
from app.services.tickets import TICKET_SECONDS

router = APIRouter(prefix="/v1/stream/tickets", tags=["events"])


@router.post("", operation_id="createStreamTicket", status_code=201)
async def create_stream_ticket(request: Request, caller: PushCaller, _: CreateTicket | None = None) -> Ticket:
    """A ticket that opens the stream once within 30 s, for clients that cannot set headers."""
    return Ticket(ticket=await services_of(request).tickets.issue(caller), expires_in=TICKET_SECONDS)
