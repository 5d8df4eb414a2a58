"""Keywords in use."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.conditions import is_unchanged, not_modified
from app.api.deps import CurrentCaller, ReadableAccount, services_of, state_of
from app.api.paging import Cursor, OptionalLimit, whole_list
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.base import Sync
from app.api.schemas.keywords import KeywordList, KeywordUse
from app.errors import InvalidRequest, StateExpired

router = Router(prefix="/v1/accounts/{account_id}/keywords", tags=["messages"])


@router.get(
    "",
    operation_id="listKeywords",
    response_model=KeywordList,
    responses={304: {"description": "As known"}, **problems(StateExpired, InvalidRequest)},
)
async def list_keywords(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    limit: OptionalLimit = None,
    cursor: Cursor = None,
) -> Response:
    """The keywords that messages of the account have, with how many have each."""
    services = services_of(request)
    state = await state_of(services, account_id)
    if is_unchanged(request, state):
        return not_modified(state)
    after = None if cursor is None else str(services.states.open_cursor("keywords", cursor, account_id))
    used, last = await services.keywords.page(account_id, caller, limit, after)
    next_cursor = None if last is None else services.states.seal_cursor("keywords", account_id, last)
    answer = KeywordList(
        items=[KeywordUse.of(use) for use in used],
        next_cursor=next_cursor,
        state=state,
        sync=Sync.of(await services.accounts.sync(account_id)),
    )
    return whole_list(request, answer, state, next_cursor)
