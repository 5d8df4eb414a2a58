"""Search over several accounts."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import Query, Response

from app.api.deps import ReadingCaller
from app.api.message_lists import indexed_as_json
from app.api.problems import parameters_in_body, problems
from app.api.routing import Router
from app.api.schemas.base import Sync
from app.api.schemas.message_requests import AccountsSearchRequest, CountText
from app.api.schemas.messages import SearchAnswer
from app.api.services import SearchingService, StatesService, ViewsService
from app.errors import AccountNotFound, InvalidRequest, StateExpired
from app.services.following.states import States
from app.services.reading.searching import AccountAnswer

router = Router(prefix="/v1/search", tags=["messages"])


@router.post(
    "",
    operation_id="searchAccounts",
    response_model=SearchAnswer,
    responses=problems(AccountNotFound, StateExpired, InvalidRequest),
)
async def search_accounts(
    caller: ReadingCaller,
    search: AccountsSearchRequest,
    searching: SearchingService,
    views: ViewsService,
    states: StatesService,
    count: Annotated[CountText | None, Query(description="Adds `total`")] = None,
) -> Response:
    """Find messages by a filter in all accounts of the token, or in the given accounts, sorted together.

    An account that does not answer within 4 seconds has `is_complete` false, and does not delay the others.
    """
    with parameters_in_body():
        order, view = search.order(count, is_forced=False), search.requested_view()
        page = await searching.page(caller, search.account_ids, order)
        items = await views.listed_across(caller, page.items, view, order.tree)
    rest: dict[str, Any] = {
        "next_cursor": page.next_cursor,
        "accounts": [_account(states, answer) for answer in page.accounts],
        "total": page.total,
    }
    content = b"".join((b'{"items":[', b",".join(items), b"],", orjson.dumps(rest)[1:]))
    return Response(content, media_type="application/json")


def _account(states: States, answer: AccountAnswer) -> dict[str, Any]:
    """Return an AccountSearch object."""
    return {
        "account_id": answer.account_id,
        "is_complete": answer.is_complete,
        "state": None if answer.standing is None else states.issue(answer.account_id, answer.standing.position),
        "sync": None if answer.sync is None else orjson.Fragment(Sync.of(answer.sync).model_dump_json()),
        "indexed": indexed_as_json(answer.indexed),
        "code": None if answer.error is None else answer.error.code,
    }
