"""Keywords in use."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.conditions import is_unchanged, not_modified
from app.api.deps import CurrentCaller, ReadableAccount
from app.api.paging import Cursor, OptionalLimit, whole_list
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.keywords import KeywordList, KeywordUse
from app.api.services import AccountStanding, KeywordsService
from app.errors import InvalidRequest, StateExpired

router = Router(prefix="/v1/accounts/{account_id}/keywords", tags=["messages"])


@router.get(
    "",
    operation_id="listKeywords",
    response_model=KeywordList,
    responses={304: {"description": "Not modified"}, **problems(StateExpired, InvalidRequest)},
)
async def list_keywords(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    standing: AccountStanding,
    keywords: KeywordsService,
    limit: OptionalLimit = None,
    cursor: Cursor = None,
) -> Response:
    """List the keywords in use, with the number of messages that have each."""
    state = await standing.state()
    if is_unchanged(request, state):
        return not_modified(state)
    after = None if cursor is None else str(standing.open_cursor("keywords", cursor))
    used, last = await keywords.page(account_id, caller, limit, after)
    next_cursor = None if last is None else standing.seal_cursor("keywords", last)
    answer = KeywordList(
        items=[KeywordUse.of(use) for use in used],
        next_cursor=next_cursor,
        state=state,
        sync=await standing.sync(),
    )
    return whole_list(request, answer, state, next_cursor)
