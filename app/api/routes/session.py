"""Sign-in with a mailbox's password."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.deps import PublicAccess, SessionCaller
from app.api.idempotency import Once, answer_of
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
async def sign_in(request: Request, body: SignIn, once: Once, sessions: SessionsService) -> Response:
    """Sign in with a mailbox's address and password.

    Mailboxes on other mail servers require the setting POSTGATE_SESSION_REMOTE: Postgate finds the servers by the
    address and adds the account at the first sign-in. Every request checks the password, including a repeated request.
    """
    address = request.client.host if request.client else ""
    login = await sessions.verify(body.email, body.password.get_secret_value(), address)

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
async def refresh_session(body: Refresh, once: Once, sessions: SessionsService) -> Response:
    """Get the next pair of tokens. A refresh token works once; using it again ends the session.

    With an Idempotency-Key you can repeat a refresh whose answer was lost.
    """
    token = body.refresh_token.get_secret_value()

    async def work(attempt: Attempt) -> Answer:
        return _refreshed(await sessions.refresh(token, attempt, _refreshed))

    return await once.run(work, is_secret=True, caller=hash_secret(token))


def _refreshed(pair: SignedIn) -> Answer:
    return answer_of(200, Session.of(pair))


@router.delete("", operation_id="signOut", status_code=204, responses=problems(NotFound))
async def sign_out(caller: SessionCaller, sessions: SessionsService) -> None:
    """End the session of the token, with all its tokens."""
    await sessions.sign_out(caller)
