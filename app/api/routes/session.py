"""Sign-in with a mailbox's password."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.deps import PublicAccess, SessionCaller
from app.api.once import Once, answer_of
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.tokens import Refresh, Session, SignIn
from app.api.services import SessionsService
from app.errors import (
    AddressNotAllowed,
    IdempotencyRunning,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotSupported,
    RateLimited,
    ServerProtocolError,
    ServerRefused,
    TimedOut,
    Unreachable,
)
from app.security.secrets import hash_secret
from app.services.access.idempotency import Answer, Attempt
from app.services.sign_in.sessions import SignedIn

router = Router(prefix="/v1/session", tags=["session"])


@router.post(
    "",
    operation_id="signIn",
    status_code=201,
    response_model=Session,
    dependencies=[PublicAccess],
    responses=problems(
        NotAuthenticated,
        IdempotencyRunning,
        RateLimited,
        InvalidRequest,
        AddressNotAllowed,
        NotSupported,
        ServerRefused,
        ServerProtocolError,
        Unreachable,
        TimedOut,
    ),
)
async def sign_in(request: Request, order: SignIn, once: Once, sessions: SessionsService) -> Response:
    """Sign in with a mailbox's address and password.

    One of another mail server needs the setting POSTGATE_SESSION_REMOTE: its servers are found by the address, and the
    account is added at the first time. The password is checked at every request, repeated or not.
    """
    address = request.client.host if request.client else ""
    login = await sessions.verify(order.email, order.password.get_secret_value(), address)

    async def work(attempt: Attempt) -> Answer:
        return _signed_in(await sessions.open(login, attempt, _signed_in))

    return await once.run(work, is_secret=True, caller=login.account_id)


def _signed_in(pair: SignedIn) -> Answer:
    return answer_of(201, Session.of(pair))


@router.post(
    "/refresh",
    operation_id="refreshSession",
    response_model=Session,
    dependencies=[PublicAccess],
    responses=problems(NotAuthenticated, IdempotencyRunning, InvalidRequest),
)
async def refresh_session(order: Refresh, once: Once, sessions: SessionsService) -> Response:
    """The next pair of tokens. The refresh token given is used up; if it was before, the session ends.

    With an Idempotency-Key a refresh whose answer was lost can be repeated.
    """
    token = order.refresh_token.get_secret_value()

    async def work(attempt: Attempt) -> Answer:
        return _refreshed(await sessions.refresh(token, attempt, _refreshed))

    return await once.run(work, is_secret=True, caller=hash_secret(token))


def _refreshed(pair: SignedIn) -> Answer:
    return answer_of(200, Session.of(pair))


@router.delete("", operation_id="signOut", status_code=204, responses=problems(NotFound))
async def sign_out(caller: SessionCaller, sessions: SessionsService) -> None:
    """End the session that the token belongs to, with all its tokens."""
    await sessions.sign_out(caller)
