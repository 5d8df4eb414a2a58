"""Operations of POP3 accounts."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import Query, Response

from app.api.deps import CurrentCaller, ReadableAccount
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.base import Sync
from app.api.schemas.pop3 import Fetched
from app.api.services import AccountStanding, PollingService
from app.errors import LoginRefused, NotSupported
from app.mail.summaries import shown_summary

router = Router(prefix="/v1/accounts/{account_id}/pop3", tags=["accounts"])
WAIT_LIMIT_SECONDS = 30


@router.post(
    "/fetch",
    operation_id="fetchNewMail",
    response_model=Fetched,
    responses={
        202: {"model": Fetched, "description": "The download continues"},
        **problems(NotSupported, LoginRefused),
    },
)
async def fetch(
    account_id: ReadableAccount,
    caller: CurrentCaller,
    polling: PollingService,
    standing: AccountStanding,
    wait: Annotated[int, Query(ge=0, le=WAIT_LIMIT_SECONDS, description="Seconds to wait for the result")] = 10,
) -> Response:
    """Download new mail from the POP3 server now: 200 with the result, 202 if it takes longer."""
    polled = await polling.poll(account_id, caller, wait)
    body = {
        "is_done": polled.is_done,
        "created": [orjson.Fragment(shown_summary(message.summary)) for message in polled.arrived],
        "state": standing.at(polled.position),
        "sync": orjson.Fragment(Sync.of(polled.sync).model_dump_json()),
    }
    return Response(orjson.dumps(body), 200 if polled.is_done else 202, media_type="application/json")
