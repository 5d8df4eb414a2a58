"""Accounts: back ends add and remove them; an account's own tokens read and maintain them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from app.api.conditions import STATE_HEADER
from app.api.deps import (
    AdminCaller,
    AdministeredAccount,
    CurrentCaller,
    ReadableAccount,
    ReadingCaller,
    Scope,
    SettingsAccount,
)
from app.api.idempotency import Once, answer_of
from app.api.paging import Cursor, Limit, add_link
from app.api.problems import problems
from app.api.queries import METADATA_PARAMETER, metadata_query
from app.api.routing import Router
from app.api.schemas.accounts import Account, ChangePassword, CreateAccount, ServerCapabilities, UpdateAccount
from app.api.schemas.base import Page
from app.api.schemas.tokens import Session
from app.api.services import AccountsService, AccountStanding, OAuthAppsService, PasswordsService, StatesService
from app.errors import (
    AddressNotAllowed,
    AlreadyExists,
    IdempotencyRunning,
    InvalidRequest,
    LoginRefused,
    NotAuthenticated,
    NotPermitted,
    NotSupported,
    RateLimited,
    ServerProtocolError,
    ServerRefused,
    StateExpired,
    TimedOut,
    Unreachable,
)
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.accounts import accounts
from app.services.following.states import EVERY_ACCOUNT
from app.services.oauth.apps import OAuthApp, OAuthApps
from app.services.sign_in.passwords import NoPassword
from app.services.sign_in.sessions import SignedIn

router = Router(prefix="/v1/accounts", tags=["accounts"])
_ORIGIN = (LoginRefused, ServerRefused, ServerProtocolError, Unreachable, TimedOut)
Revoke = Annotated[bool, Query(description="Also revoke the account's OAuth grant at the provider")]
Verify = Annotated[bool, Query(description="Test the logins first, within 10 s")]


@router.get(
    "",
    operation_id="listAccounts",
    openapi_extra=METADATA_PARAMETER,
    responses=problems(StateExpired, InvalidRequest),
)
async def list_accounts(
    request: Request,
    response: Response,
    caller: ReadingCaller,
    states: StatesService,
    accounts: AccountsService,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Account]:
    """List the accounts of the token, oldest first."""
    above_id = "" if cursor is None else str(states.open_cursor("accounts", cursor, EVERY_ACCOUNT))
    rows, last_id = await accounts.page(caller, limit, above_id, metadata_query(request))
    next_cursor = None if last_id is None else states.seal_cursor("accounts", EVERY_ACCOUNT, last_id)
    add_link(request, response, next_cursor)
    return Page(items=await _account_models(accounts, caller, *rows), next_cursor=next_cursor)


@router.post(
    "",
    operation_id="createAccount",
    status_code=201,
    response_model=Account,
    responses=problems(AlreadyExists, IdempotencyRunning, InvalidRequest, AddressNotAllowed, NotSupported, *_ORIGIN),
)
async def create_account(
    caller: AdminCaller,
    body: CreateAccount,
    once: Once,
    accounts: AccountsService,
    oauth_apps: OAuthAppsService,
    verify: Verify = True,
) -> Response:
    """Add an account. With `verify` its logins are tested first, and nothing is stored if one fails."""
    accounts.check_addition(caller)

    async def work(attempt: Attempt) -> Answer:
        new = body.order(await _app_of(oauth_apps, body))
        return _created(await accounts.add(new, caller, is_verified=verify, attempt=attempt, answer=_created))

    return await once.run(work)


async def _account_models(service: AccountsService, caller: Caller, *rows: accounts.Account) -> list[Account]:
    """Return accounts with the mailboxes and messages that Postgate could not read."""
    incomplete = await service.incomplete([account.id for account in rows], caller)
    return [Account.of(account, incomplete.get(account.id, ())) for account in rows]


def _created(account: accounts.Account) -> Answer:
    return answer_of(201, Account.of(account), {"Location": f"/v1/accounts/{account.id}"})


@router.get("/{account_id}", operation_id="getAccount")
async def get_account(
    response: Response,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    standing: AccountStanding,
    accounts: AccountsService,
) -> Account:
    """Get one account, with the state of its sync."""
    response.headers[STATE_HEADER] = await standing.state()
    return (await _account_models(accounts, caller, await accounts.get(account_id)))[0]


@router.patch(
    "/{account_id}",
    operation_id="updateAccount",
    responses=problems(NotPermitted, InvalidRequest, AddressNotAllowed, *_ORIGIN),
)
async def update_account(
    account_id: SettingsAccount,
    caller: CurrentCaller,
    body: UpdateAccount,
    accounts: AccountsService,
    oauth_apps: OAuthAppsService,
    verify: Verify = True,
) -> Account:
    """Change the name; with the scope `admin` also the servers, the logins and the password.

    A new password, host or user name ends the account's sign-ins and mail sessions.
    """
    if body.needs_admin:
        caller.require(Scope.ADMIN)
    _, known = await accounts.servers(account_id)
    changes = body.changes(known, await _app_of(oauth_apps, body))
    return (await _account_models(accounts, caller, await accounts.update(account_id, changes, is_verified=verify)))[0]


@router.post(
    "/{account_id}/password",
    operation_id="changePassword",
    response_model=Session,
    responses=problems(
        NotPermitted, NotAuthenticated, RateLimited, IdempotencyRunning, NoPassword, InvalidRequest, *_ORIGIN
    ),
)
async def change_password(
    request: Request,
    account_id: SettingsAccount,
    caller: CurrentCaller,
    body: ChangePassword,
    once: Once,
    passwords: PasswordsService,
) -> Response:
    """Change the account's password. Requires the token of a sign-in and the old password; returns new tokens.

    All other sign-ins, the tokens that they created, and the mail sessions end. For an account on another mail server,
    change the password at that server first: Postgate tests the new password there.
    """
    address = request.client.host if request.client else ""

    async def work(attempt: Attempt) -> Answer:
        pair = await passwords.change(
            account_id, caller, body.change(), address, attempt=attempt, answer=_signed_in_again
        )
        return _signed_in_again(pair)

    return await once.run(work, is_secret=True)


def _signed_in_again(pair: SignedIn) -> Answer:
    return answer_of(200, Session.of(pair))


async def _app_of(oauth_apps: OAuthApps, body: CreateAccount | UpdateAccount) -> OAuthApp | None:
    """Return the OAuth app of the consent, None without consent. Raises InvalidRequest."""
    if (consent := body.oauth) is None:
        return None
    return await oauth_apps.chosen(consent.oauth_app_id, consent.provider, "/oauth")


@router.delete("/{account_id}", operation_id="deleteAccount", status_code=204)
async def delete_account(account_id: AdministeredAccount, accounts: AccountsService, revoke: Revoke = True) -> None:
    """Delete an account and everything that Postgate stores of it. Mail on an external server is not changed.

    An OAuth grant is revoked in the background, if its authorization server supports it.
    """
    await accounts.remove(account_id, is_revoking=revoke)


@router.post("/{account_id}/verify", operation_id="verifyAccount", responses=problems(AddressNotAllowed, *_ORIGIN))
async def verify_account(account_id: SettingsAccount, caller: CurrentCaller, accounts: AccountsService) -> Account:
    """Test the account's logins now."""
    return (await _account_models(accounts, caller, await accounts.verify(account_id)))[0]


@router.post("/{account_id}/reconnect", operation_id="reconnectAccount")
async def reconnect_account(account_id: SettingsAccount, caller: CurrentCaller, accounts: AccountsService) -> Account:
    """Close the account's connections to its mail server and open new ones."""
    return (await _account_models(accounts, caller, await accounts.reconnect(account_id)))[0]


@router.get("/{account_id}/capabilities", operation_id="getCapabilities", responses=problems(*_ORIGIN))
async def get_capabilities(account_id: ReadableAccount, accounts: AccountsService) -> ServerCapabilities:
    """Get the capabilities of the account's mail server."""
    return ServerCapabilities(capabilities=await accounts.capabilities(account_id))
