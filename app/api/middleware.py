"""What happens to every request before a route and to every answer after it: pure ASGI, no task of its own."""

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
"""Headers of answers that a page may read."""
_TAKEN = (
    "Authorization, Content-Type, Accept, Cache-Control, Client-Id, Idempotency-Key, If-Match, If-None-Match, "
    "If-Range, Range, Last-Event-ID, Tus-Resumable, Upload-Offset, Upload-Length, Upload-Defer-Length, "
    "Upload-Metadata, Upload-Checksum, Upload-Concat, Mcp-Session-Id, Mcp-Protocol-Version"
)
"""Headers of requests that a page may send."""
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_PREFLIGHT_SECONDS = 7200
_FOREIGN_PAGE = "Pages of this origin may not use the API"
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,300}")
_CLIENT_ID = re.compile(rf"[!-~]{{1,{CLIENT_ID_CHARS}}}")


class MePaths:
    """`/v1/me/…` is another spelling of `/v1/accounts/me/…`, so that every route below an account exists once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(_ME) and path[len(_ME) :][:1] in ("", "/"):
            scope = {**scope, "path": _ACCOUNT + path[len(_ME) :]}
        await self._app(scope, receive, send)


class Edge:
    """Answers preflights and what nobody foresaw, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        with caused_by(Cause(new_request_id(), _client_id(scope))), links_begin_with(_base_url(scope)):
            await (self._answer if scope["type"] == "http" else self._connect)(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket: the answer to its handshake has a request id."""

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
        except Exception as error:  # noqa: BLE001 - our own fault: answered as such, without its text in log or answer
            log.error("unexpected_error", error=type(error).__name__, trace=traceback.format_tb(error.__traceback__))
            if answer.has_begun:
                raise ConnectionAbortedError("the answer was cut off") from None
            await problem_response(GatewayError())(scope, receive, answer.send)
        finally:
            client_leaves.reset(token)

    async def _preflight(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Whether a page may call (Fetch §4.8). It has no token yet, so any token's origins count."""
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
    """Sends an answer, with the headers that every one has."""

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
    """The `Client-Id` of the caller, where it is valid."""
    text = _header(scope, b"client-id")
    return text if text is not None and _CLIENT_ID.fullmatch(text) else None


def _check_client_id(scope: Scope) -> None:
    """InvalidRequest where there is a `Client-Id` that is not valid."""
    if _header(scope, b"client-id") is not None and _client_id(scope) is None:
        detail = f"Must be 1 to {CLIENT_ID_CHARS} visible ASCII characters"
        raise InvalidRequest.parameter("Client-Id", detail)


def _request_id_header() -> tuple[bytes, bytes]:
    return (REQUEST_ID.lower().encode(), current_request_id().encode())


async def _client_leaves(receive: Receive) -> None:
    """Returns when the client has closed the connection. To be called when the request's body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _services(scope: Scope) -> Services:
    return cast("Services", scope["app"].state.services)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _base_url(scope: Scope) -> str:
    """What URLs in answers begin with: PUBLIC_URL, else as the caller spelled it."""
    services = getattr(scope["app"].state, "services", None)  # not yet there where only the description is read
    public_url: str | None = services.settings.public_url if services is not None else None
    if public_url is not None:
        return public_url.rstrip("/")
    host = _header(scope, b"host")
    return f"{scope.get('scheme', 'http')}://{host}" if host is not None and _HOST.fullmatch(host) else ""


def _is_preflight(headers: Headers) -> bool:
    return "origin" in headers and "access-control-request-method" in headers


def _check_session_page(scope: Scope) -> None:
    """NotPermitted for a page that signs in, and that the install's own list does not name."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is None or not is_session(scope["path"]):
        return
    if not is_of_install(origin, headers.get("host", ""), _services(scope).settings):
        raise NotPermitted(_FOREIGN_PAGE)


async def _is_readable_from(scope: Scope, origin: str) -> bool:
    """Whether a page of this origin may read the answer. One without a caller is a problem, or public."""
    services, caller = _services(scope), cast("Caller | None", scope.get(CALLER_KEY))
    if caller is not None and not is_session(scope["path"]):
        return is_allowed(origin, "", services.settings, caller)
    return await may_ask(origin, "", scope["path"], services.settings, services.tokens.origins)


def _rate_headers(rates: Sequence[Rate]) -> list[tuple[bytes, bytes]]:
    """RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
    policy = ", ".join([f'"{rate.name}";q={rate.quota};w={WINDOW_SECONDS}' for rate in rates])
    left = ", ".join([f'"{rate.name}";r={max(0, rate.remaining)};t={rate.reset_seconds}' for rate in rates])
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]
