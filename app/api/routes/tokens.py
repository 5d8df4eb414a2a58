"""Server keys and account tokens."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.deps import AdminCaller, TokenMaker
from app.api.idempotency import Once, answer_of
from app.api.paging import Cursor, Limit, add_link
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.base import Page
from app.api.schemas.tokens import CreateToken, NewToken, Token
from app.api.services import StatesService, TokensService
from app.errors import IdempotencyRunning, InvalidRequest, NotPermitted, StateExpired
from app.services.access.idempotency import Answer, Attempt
from app.services.access.tokens import TokenNotFound, TokenRecord
from app.services.following.states import EVERY_ACCOUNT

router = Router(prefix="/v1/tokens", tags=["tokens"])


@router.get("", operation_id="listTokens", responses=problems(StateExpired, InvalidRequest))
async def list_tokens(
    request: Request,
    response: Response,
    caller: AdminCaller,
    states: StatesService,
    tokens: TokensService,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Token]:
    """List the valid tokens, newest first."""
    below = () if cursor is None else (str(states.open_cursor("tokens", cursor, EVERY_ACCOUNT)),)
    rows, last_id = await tokens.list(caller, limit, *below)
    next_cursor = None if last_id is None else states.seal_cursor("tokens", EVERY_ACCOUNT, last_id)
    add_link(request, response, next_cursor)
    return Page(items=[Token.of(token_record) for token_record in rows], next_cursor=next_cursor)


@router.post(
    "",
    operation_id="createToken",
    status_code=201,
    response_model=NewToken,
    responses=problems(NotPermitted, IdempotencyRunning, InvalidRequest),
)
async def create_token(caller: TokenMaker, body: CreateToken, once: Once, tokens: TokensService) -> Response:
    """Create a token. Only this response has its secret.

    Requires the scope `admin`, or the token of a sign-in, which can create tokens for its own account. A new token
    cannot have more rights or a longer life than the token that creates it, and ends with that token.
    """

    async def work(attempt: Attempt) -> Answer:
        made = await tokens.create(body.order(), caller, attempt=attempt, answer=_created)
        return _created(*made)

    return await once.run(work, is_secret=True)


def _created(record: TokenRecord, secret: str) -> Answer:
    return answer_of(201, NewToken.with_secret(record, secret), {"Location": f"/v1/tokens/{record.id}"})


@router.get("/{token_id}", operation_id="getToken", responses=problems(TokenNotFound))
async def get_token(caller: AdminCaller, token_id: str, tokens: TokensService) -> Token:
    """Get one token, without its secret."""
    return Token.of(await tokens.get(token_id, caller))


@router.delete("/{token_id}", operation_id="deleteToken", status_code=204, responses=problems(TokenNotFound))
async def delete_token(caller: AdminCaller, token_id: str, tokens: TokensService) -> None:
    """Revoke a token, and all tokens created with it. Their open streams and mail sessions end at once."""
    await tokens.revoke(token_id, caller)
