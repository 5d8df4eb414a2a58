"""Sign-in with a mailbox's password."""

from __future__ import annotations

from fastapi import APIRouter, Request

from app.api.deps import PublicAccess, SessionCaller, services_of
from app.api.problems import problems
from app.api.schemas.tokens import Refresh, Session, SignIn
from app.errors import (
    AddressNotAllowed,
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

router = APIRouter(prefix="/v1/session", tags=["session"])


@router.post(
    "",
    operation_id="signIn",
    status_code=201,
    dependencies=[PublicAccess],
    responses=problems(
        NotAuthenticated,
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
async def sign_in(request: Request, order: SignIn) -> Session:
    """Sign in with a mailbox's address and password.

    One of another mail server needs the setting POSTGATE_SESSION_REMOTE: its servers are found by the address, and the
    account is added at the first time.
    """
    address = request.client.host if request.client else ""
    sessions = services_of(request).sessions
    return Session.of(await sessions.sign_in(order.email, order.password.get_secret_value(), address))


@router.post(
    "/refresh",
    operation_id="refreshSession",
    dependencies=[PublicAccess],
    responses=problems(NotAuthenticated, InvalidRequest),
)
async def refresh_session(request: Request, order: Refresh) -> Session:
    """The next pair of tokens. The refresh token given is used up; if it was before, the session ends."""
    return Session.of(await services_of(request).sessions.refresh(order.refresh_token.get_secret_value()))


@router.delete("", operation_id="signOut", status_code=204, responses=problems(NotFound))
async def sign_out(request: Request, caller: SessionCaller) -> None:
    """End the session that the token belongs to, with all its tokens."""
    await services_of(request).sessions.sign_out(caller)
