"""The hosted page where people add their accounts, and the redirect URI of authorization servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.api import connect_pages as pages
from app.api.deps import AdminCaller, PublicAccess
from app.api.idempotency import Once, answer_of
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.oauth import ConnectSession, CreateConnectSession
from app.api.services import ConnectingService, EnrolmentService, GatewaySettings, OAuthAppsService
from app.errors import AccountNotFound, GatewayError, IdempotencyRunning, InvalidRequest, NotPermitted
from app.mail.types import AccountKind, TransportSecurity
from app.services.access.idempotency import Answer, Attempt
from app.services.oauth.apps import OAuthApp
from app.services.oauth.providers import MailServer
from app.services.sign_in.connecting import (
    CALLBACK_PATH,
    SESSION_SECONDS,
    ConnectSessionNotFound,
    NewSession,
    OpenConnectSession,
    Returned,
)

router = Router(tags=["oauth"])
FORM_LIMIT_CHARS = 1_000
_FORM_FIELDS = 20
_PORTS = {AccountKind.IMAP: "993", AccountKind.POP3: "995"}
_OAUTH_ERRORS = frozenset({"access_denied", "temporarily_unavailable", "server_error"})
Code = Annotated[str | None, Query(max_length=4_000)]
Short = Annotated[str | None, Query(max_length=500)]


@router.post(
    "/v1/connect/sessions",
    operation_id="createConnectSession",
    status_code=201,
    response_model=ConnectSession,
    responses=problems(IdempotencyRunning, InvalidRequest, NotPermitted, AccountNotFound),
)
async def create_connect_session(
    request: Request,
    caller: AdminCaller,
    body: CreateConnectSession,
    once: Once,
    settings: GatewaySettings,
    connecting: ConnectingService,
) -> Response:
    """Create a connect session for one person. Send their browser to its `url`, once, within 15 minutes."""
    base_url = settings.public_url or str(request.base_url).rstrip("/")

    async def work(attempt: Attempt) -> Answer:
        opened = await connecting.open(body.order(), base_url.rstrip("/"), caller, attempt=attempt, answer=_created)
        return _created(opened)

    return await once.run(work, is_secret=True)


def _created(session: NewSession) -> Answer:
    return answer_of(201, ConnectSession.of(session))


@router.get(CALLBACK_PATH, include_in_schema=False, dependencies=[PublicAccess])
async def return_from_consent(
    request: Request,
    connecting: ConnectingService,
    enrolment: EnrolmentService,
    state: Short = None,
    code: Code = None,
    error: Short = None,
    iss: Short = None,
) -> Response:
    """The redirect URI of authorization servers. Repeating the request redirects to the same URL."""
    returned = Returned(state or "", iss)
    parameters = {"code": code or "", "error": error or "", "iss": iss or ""}
    try:
        session = await connecting.returned(returned, _browser_of(request))
        enrol = partial(_by_consent, connecting, enrolment, session, returned, code if error is None else None, error)
        url = await enrolment.once(session, parameters, enrol)
    except GatewayError as failure:
        return _refusal(failure)
    response = RedirectResponse(url, 303, pages.HEADERS)
    response.delete_cookie(_cookie(session.id), path=session.cookie_path)
    return response


async def _by_consent(
    connecting: ConnectingService,
    enrolment: EnrolmentService,
    session: OpenConnectSession,
    returned: Returned,
    code: str | None,
    error: str | None,
    attempt: Attempt,
) -> str:
    """Return the app's redirect URL with the result of the consent."""
    app, verifier = await connecting.take(session, returned)
    if code is None:
        return session.ending(error=error if error in _OAUTH_ERRORS else "access_denied")
    try:
        answer = await connecting.tokens(session, app, code, verifier)
        account_id = await enrolment.by_consent(session, app, answer, attempt)
    except GatewayError as failure:
        return session.ending(error=failure.code)
    return session.ending(account_id=account_id)


@router.get("/v1/connect/{secret}", include_in_schema=False, dependencies=[PublicAccess])
async def show_connect_page(
    request: Request, secret: str, connecting: ConnectingService, oauth_apps: OAuthAppsService
) -> Response:
    """Show the page of a session. Only the first browser that opens it can use it."""
    browser = None
    try:
        try:
            session = await connecting.visit(secret, _browser_of(request))
        except ConnectSessionNotFound:
            session, browser = await connecting.enter(secret)
        page = pages.choose(await _apps(oauth_apps, session), session.kind, _values(session))
    except GatewayError as failure:
        return _refusal(failure)
    if browser is not None:
        page.set_cookie(
            _cookie(session.id),
            browser,
            max_age=SESSION_SECONDS,
            path=session.cookie_path,
            secure=session.base_url.startswith("https:"),
            httponly=True,
            samesite="lax",
        )
    return page


@router.post("/v1/connect/{secret}", include_in_schema=False, dependencies=[PublicAccess])
async def answer_connect_page(
    request: Request,
    secret: str,
    connecting: ConnectingService,
    enrolment: EnrolmentService,
    oauth_apps: OAuthAppsService,
) -> Response:
    """Process the person's choice: a provider or a password. Repeating the form redirects to the same URL."""
    try:
        session = await connecting.visit(secret, _browser_of(request), may_be_over=True)
        form = await _form(request)
        if "app" in form:
            return pages.leave(await connecting.begin(session, form["app"], form.get("email") or None))
        return await _with_password(connecting, enrolment, oauth_apps, session, form)
    except GatewayError as failure:
        return _refusal(failure)


async def _with_password(
    connecting: ConnectingService,
    enrolment: EnrolmentService,
    apps: OAuthAppsService,
    session: OpenConnectSession,
    form: dict[str, str],
) -> Response:
    """Add the account, or show the form again with the error and the servers to correct."""
    fields_to_show = _values(session) | {name: text for name, text in form.items() if name not in ("password", "way")}

    async def enrol(attempt: Attempt) -> str:
        counted = await connecting.try_again(session)
        if "only_app" in fields_to_show or not form.get("password"):
            raise InvalidRequest("A password is required")
        email, kind = form.get("email", ""), AccountKind(session.kind)
        servers = _servers(form, kind) or await enrolment.found(email, kind)
        fields_to_show.update(_server_fields(servers, kind))
        if session.account_id is None and kind.value not in servers:
            raise InvalidRequest("No mail server is known for this address. Enter its name.")
        username, password = form.get("username", ""), form["password"]
        return counted.ending(
            account_id=await enrolment.by_password(counted, email, username, password, servers, attempt)
        )

    try:
        return pages.leave(await enrolment.once(session, form, enrol))
    except ConnectSessionNotFound:
        raise
    except GatewayError as failure:
        return pages.choose(await _apps(apps, session), session.kind, fields_to_show, problem=failure.detail)


def _browser_of(request: Request) -> Callable[[str], str | None]:
    return lambda session_id: request.cookies.get(_cookie(session_id))


def _cookie(session_id: str) -> str:
    """Return the session's own cookie name, so that several sessions can be open in one browser."""
    return f"postgate_{session_id}"


def _refusal(failure: GatewayError) -> HTMLResponse:
    return pages.refuse(failure.detail, failure.problem.status)


async def _apps(apps: OAuthAppsService, session: OpenConnectSession) -> list[OAuthApp]:
    """Return the OAuth apps that the page offers."""
    if session.is_app_fixed and session.oauth_app_id is not None:
        return [await apps.get(session.oauth_app_id)]
    return [item for item in await apps.all() if item.serves(AccountKind(session.kind))]


def _values(session: OpenConnectSession) -> dict[str, str]:
    return {"email": session.email or ""} | ({"only_app": "yes"} if session.is_app_fixed else {})


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a posted form without files. Raises InvalidRequest."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise InvalidRequest("The form could not be read")
    text = (await request.body()).decode("ascii", "replace")
    try:
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=_FORM_FIELDS)
    except ValueError:
        raise InvalidRequest("The form could not be read") from None
    if any(len(value) > FORM_LIMIT_CHARS or not value.isprintable() for _, value in fields):
        raise InvalidRequest("A field is too long or contains a control character")
    return dict(fields)


def _servers(form: Mapping[str, str], kind: AccountKind) -> dict[str, MailServer]:
    """Return the servers that the person typed; empty if none. Raises InvalidRequest."""
    servers = {}
    for name in (kind.value, "smtp"):
        if host := form.get(f"{name}_host", "").strip():
            port = form.get(f"{name}_port", "")
            if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
                raise InvalidRequest("The port must be a number from 1 to 65535")
            security = (
                TransportSecurity.STARTTLS if form.get(f"{name}_security") == "starttls" else TransportSecurity.TLS
            )
            servers[name] = MailServer(host, int(port), security)
    return servers


def _server_fields(servers: Mapping[str, MailServer], kind: AccountKind) -> dict[str, str]:
    """Return the servers as form fields."""
    fields = {f"{kind}_host": "", f"{kind}_port": _PORTS[kind], "smtp_host": "", "smtp_port": "465"}
    for name, server in servers.items():
        fields[f"{name}_host"] = server.host
        fields[f"{name}_port"] = str(server.port)
        fields[f"{name}_security"] = server.security.value
    return fields
