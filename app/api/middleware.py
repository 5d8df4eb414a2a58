"""Middleware around all routes, in plain ASGI without a task of its own."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Sequence
from functools import partial
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.compression import Compressing
from app.api.deps import CALLER_KEY, RATES_KEY, Services
from app.api.origins import is_allowed, is_of_install, is_session, may_ask
from app.api.problems import REQUEST_ID, problem_response
from app.cause import CLIENT_ID_CHARS, Cause, caused_by, current_request_id, new_request_id
from app.errors import GatewayError, InvalidRequest, NotPermitted
from app.parsing.jobs import client_leaves
from app.services.access.callers import ME, Caller
from app.services.access.limits import WINDOW_SECONDS, Rate
from app.services.access.links import links_begin_with
from app.services.health import NotReady
from app.telemetry import get_logger

log = get_logger(__name__)

_ME, _ACCOUNT = f"/v1/{ME}", f"/v1/accounts/{ME}"
_EXPOSED = (
    "ETag, Link, Location, Request-Id, Retry-After, RateLimit, RateLimit-Policy, Content-Disposition, Content-Range, "
    "Accept-Ranges, Idempotency-Replayed, WWW-Authenticate, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, "
    "Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Expires, Mcp-Session-Id, "
    "Postgate-State"
)
"""Response headers that a web page may read (CORS)."""
_TAKEN = (
    "Authorization, Content-Type, Accept, Cache-Control, Client-Id, Idempotency-Key, If-Match, If-None-Match, "
    "If-Range, Range, Last-Event-ID, Tus-Resumable, Upload-Offset, Upload-Length, Upload-Defer-Length, "
    "Upload-Metadata, Upload-Checksum, Upload-Concat, Mcp-Session-Id, Mcp-Protocol-Version"
)
"""Request headers that a web page may send (CORS)."""
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_PREFLIGHT_SECONDS = 7200
_FOREIGN_PAGE = "This web origin is not allowed to use the API"
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,300}")
_CLIENT_ID = re.compile(rf"[!-~]{{1,{CLIENT_ID_CHARS}}}")


class MePaths:
    """Rewrites `/v1/me/…` to `/v1/accounts/me/…`, so that every route of an account exists once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(_ME) and path[len(_ME) :][:1] in ("", "/"):
            scope = {**scope, "path": _ACCOUNT + path[len(_ME) :]}
        await self._app(scope, receive, send)


class Edge:
    """Answers preflights and unexpected errors, and adds the headers of every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        with caused_by(Cause(new_request_id(), _client_id(scope))), links_begin_with(_base_url(scope)):
            await (self._answer if scope["type"] == "http" else self._connect)(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add a request id to the response of a WebSocket handshake."""

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("websocket.accept", "websocket.http.response.start"):
                message = {**message, "headers": [*message.get("headers", ()), _request_id_header()]}
            await send(message)

        await self._app(scope, receive, send_with_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(scope, Compressing(scope, send).send)
        token = client_leaves.set(partial(_client_leaves, receive))
        try:
            if scope["method"] == "OPTIONS" and _is_preflight(headers := Headers(scope=scope)):
                await self._preflight(scope, headers, receive, answer.send)
                return
            _check_client_id(scope)
            _check_session_page(scope)
            await self._app(scope, receive, answer.send)
        except (InvalidRequest, NotPermitted) as error:
            await problem_response(error)(scope, receive, answer.send)
        except asyncio.CancelledError:
            if answer.has_begun or not _services(scope).draining.is_set():
                raise
            await problem_response(NotReady("The process is ending"))(scope, receive, answer.send)
        except Exception as error:  # noqa: BLE001 - our bug: its text goes neither to the log nor to the response
            log.error("unexpected_error", error=type(error).__name__, trace=traceback.format_tb(error.__traceback__))
            if answer.has_begun:
                raise ConnectionAbortedError("the response was cut off") from None
            await problem_response(GatewayError())(scope, receive, answer.send)
        finally:
            client_leaves.reset(token)

    async def _preflight(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Answer a preflight (Fetch §4.8). It has no token, so the origins of all tokens are allowed."""
        services, origin = _services(scope), headers["origin"]
        known = services.tokens.origins
        if not await may_ask(origin, headers.get("host", ""), scope["path"], services.settings, known):
            await problem_response(NotPermitted(_FOREIGN_PAGE))(scope, receive, send)
            return
        allowed = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _TAKEN,
            "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
        }
        await Response(status_code=204, headers=allowed)(scope, receive, send)


class _Answer:
    """Sends a response with the headers that every response has."""

    __slots__ = ("_scope", "_send", "has_begun")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            await self._add_headers(message)
        await self._send(message)

    async def _add_headers(self, message: Message) -> None:
        raw = message["headers"]
        if not any(name == b"request-id" for name, _ in raw):
            raw.append(_request_id_header())
        raw.append((b"x-content-type-options", b"nosniff"))
        if not any(name == b"cache-control" for name, _ in raw):
            raw.append((b"cache-control", b"no-store"))
        rates = cast("Sequence[Rate]", self._scope.get(RATES_KEY, ()))
        if rates:
            raw.extend(_rate_headers(rates))
        headers = MutableHeaders(raw=raw)
        headers.add_vary_header("Origin")
        origin = _header(self._scope, b"origin")
        if origin is not None and await _is_readable_from(self._scope, origin):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED


def _client_id(scope: Scope) -> str | None:
    """Return the caller's `Client-Id` if it is valid."""
    text = _header(scope, b"client-id")
    return text if text is not None and _CLIENT_ID.fullmatch(text) else None


def _check_client_id(scope: Scope) -> None:
    """Raise InvalidRequest for an invalid `Client-Id`."""
    if _header(scope, b"client-id") is not None and _client_id(scope) is None:
        detail = f"Must be 1 to {CLIENT_ID_CHARS} visible ASCII characters"
        raise InvalidRequest.parameter("Client-Id", detail)


def _request_id_header() -> tuple[bytes, bytes]:
    return (REQUEST_ID.lower().encode(), current_request_id().encode())


async def _client_leaves(receive: Receive) -> None:
    """Wait until the client closes the connection. Call it after the request's body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _services(scope: Scope) -> Services:
    return cast("Services", scope["app"].state.services)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _base_url(scope: Scope) -> str:
    """Return the base of URLs in responses: PUBLIC_URL, else the scheme and Host of the request."""
    services = getattr(scope["app"].state, "services", None)  # not set when only the OpenAPI document is built
    public_url: str | None = services.settings.public_url if services is not None else None
    if public_url is not None:
        return public_url.rstrip("/")
    host = _header(scope, b"host")
    return f"{scope.get('scheme', 'http')}://{host}" if host is not None and _HOST.fullmatch(host) else ""


def _is_preflight(headers: Headers) -> bool:
    return "origin" in headers and "access-control-request-method" in headers


def _check_session_page(scope: Scope) -> None:
    """Raise NotPermitted for a sign-in from a web origin that the CORS setting does not list."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is None or not is_session(scope["path"]):
        return
    if not is_of_install(origin, headers.get("host", ""), _services(scope).settings):
        raise NotPermitted(_FOREIGN_PAGE)


async def _is_readable_from(scope: Scope, origin: str) -> bool:
    """Whether a web page of this origin may read the response. Without a caller it is a problem or public."""
    services, caller = _services(scope), cast("Caller | None", scope.get(CALLER_KEY))
    if caller is not None and not is_session(scope["path"]):
        return is_allowed(origin, "", services.settings, caller)
    return await may_ask(origin, "", scope["path"], services.settings, services.tokens.origins)


def _rate_headers(rates: Sequence[Rate]) -> list[tuple[bytes, bytes]]:
    """Return RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
    policy = ", ".join([f'"{rate.name}";q={rate.quota};w={WINDOW_SECONDS}' for rate in rates])
    remaining = ", ".join([f'"{rate.name}";r={max(0, rate.remaining)};t={rate.reset_seconds}' for rate in rates])
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", remaining.encode())]
