"""OAuth apps: Postgate's client registrations at authorization servers."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.deps import AdminCaller, InstallAdmin
from app.api.idempotency import Once, answer_of
from app.api.paging import Cursor, Limit, add_link
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.base import Page
from app.api.schemas.oauth import CreateOAuthApp, OAuthApp, UpdateOAuthApp
from app.api.services import OAuthAppsService, StatesService
from app.errors import AddressNotAllowed, Conflict, IdempotencyRunning, InvalidRequest, StateExpired, TimedOut
from app.services.access.idempotency import Answer, Attempt
from app.services.following.states import EVERY_ACCOUNT
from app.services.oauth import apps as oauth_apps
from app.services.oauth.apps import OAuthAppNotFound

router = Router(prefix="/v1/oauth-apps", tags=["oauth"])


@router.get("", operation_id="listOAuthApps", responses=problems(StateExpired, InvalidRequest))
async def list_oauth_apps(
    request: Request,
    response: Response,
    _caller: AdminCaller,
    states: StatesService,
    oauth_apps: OAuthAppsService,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[OAuthApp]:
    """List the OAuth apps, oldest first."""
    above_id = "" if cursor is None else str(states.open_cursor("oauth-apps", cursor, EVERY_ACCOUNT))
    rows, last_id = await oauth_apps.page(limit, above_id)
    next_cursor = None if last_id is None else states.seal_cursor("oauth-apps", EVERY_ACCOUNT, last_id)
    add_link(request, response, next_cursor)
    return Page(items=[OAuthApp.of(item) for item in rows], next_cursor=next_cursor)


@router.post(
    "",
    operation_id="createOAuthApp",
    status_code=201,
    response_model=OAuthApp,
    responses=problems(IdempotencyRunning, InvalidRequest, AddressNotAllowed, TimedOut),
)
async def create_oauth_app(
    _caller: InstallAdmin, body: CreateOAuthApp, once: Once, oauth_apps: OAuthAppsService
) -> Response:
    """Add an OAuth app. Postgate fills in the endpoints and mail servers of a known provider."""

    async def work(attempt: Attempt) -> Answer:
        return _created(await oauth_apps.add(body.provider, body.order(), attempt=attempt, answer=_created))

    return await once.run(work)


def _created(app: oauth_apps.OAuthApp) -> Answer:
    return answer_of(201, OAuthApp.of(app), {"Location": f"/v1/oauth-apps/{app.id}"})


@router.get("/{oauth_app_id}", operation_id="getOAuthApp", responses=problems(OAuthAppNotFound))
async def get_oauth_app(_caller: AdminCaller, oauth_app_id: str, oauth_apps: OAuthAppsService) -> OAuthApp:
    """Get one OAuth app, without its secret."""
    return OAuthApp.of(await oauth_apps.get(oauth_app_id))


@router.patch(
    "/{oauth_app_id}",
    operation_id="updateOAuthApp",
    responses=problems(OAuthAppNotFound, Conflict, InvalidRequest, AddressNotAllowed, TimedOut),
)
async def update_oauth_app(
    _caller: InstallAdmin, oauth_app_id: str, body: UpdateOAuthApp, oauth_apps: OAuthAppsService
) -> OAuthApp:
    """Change an OAuth app. If the source of its tokens changes, send the client secret again."""
    return OAuthApp.of(await oauth_apps.change(oauth_app_id, body.order()))


@router.delete(
    "/{oauth_app_id}", operation_id="deleteOAuthApp", status_code=204, responses=problems(OAuthAppNotFound, Conflict)
)
async def delete_oauth_app(_caller: InstallAdmin, oauth_app_id: str, oauth_apps: OAuthAppsService) -> None:
    """Delete an OAuth app that no account uses."""
    await oauth_apps.remove(oauth_app_id)
