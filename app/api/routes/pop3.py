"""What accounts over POP3 have beside all others."""

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
    responses={202: {"model": Fetched, "description": "It goes on"}, **problems(NotSupported, LoginRefused)},
)
async def fetch(
    account_id: ReadableAccount,
    caller: CurrentCaller,
    polling: PollingService,
    standing: AccountStanding,
    wait: Annotated[int, Query(ge=0, le=WAIT_LIMIT_SECONDS, description="Seconds to wait for what comes")] = 10,
) -> Response:
    """Ask the server for new mail now, as soon as it lets us in: 200 with what came, 202 when that takes longer."""
    polled = await polling.poll(account_id, caller, wait)
    body = {
        "is_done": polled.is_done,
        "created": [orjson.Fragment(shown_summary(one.summary)) for one in polled.arrived],
        "state": standing.at(polled.position),
        "sync": orjson.Fragment(Sync.of(polled.sync).model_dump_json()),
    }
    return Response(orjson.dumps(body), 200 if polled.is_done else 202, media_type="application/json")
