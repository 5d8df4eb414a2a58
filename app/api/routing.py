"""Routes that authenticate the caller before they read the body, and limit the body's size."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing
from typing import Any, cast

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive

from app.api.deps import Access, services_of
from app.api.json_gauge import JsonGauge
from app.api.long_texts import LARGE_BODY_BYTES, parse_large
from app.errors import TooLarge

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

PUBLIC_BODY_BYTES = 64 * 1024
"""Largest body of a public route."""
BODY_BYTES = 1024 * 1024
"""Largest body of other routes, except `MESSAGE_OPERATIONS`."""
MESSAGE_OPERATIONS = frozenset({"sendMessage", "importMessage"})
"""The only operations whose body may contain a complete message."""


class AdmittingRoute(APIRoute):
    """Checks token, scope and account, then reads the body, then calls the endpoint."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        access = access_of(self)
        assert access is not None, f"{self.path} does not declare an Access"

        async def admit_and_handle(request: Request) -> Response:
            await access.admit(request)
            limit = self._body_limit(request, access)
            return await handle(_JsonRequest(request.scope, _bounded(request, limit)))

        return admit_and_handle

    def _body_limit(self, request: Request, access: Access) -> int:
        if access.is_public:
            return PUBLIC_BODY_BYTES
        if self.operation_id in MESSAGE_OPERATIONS:  # base64 and JSON syntax
            return BODY_BYTES + 2 * services_of(request).settings.max_message_bytes
        return BODY_BYTES


class Router(APIRouter):
    """An APIRouter whose routes are AdmittingRoutes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=AdmittingRoute, **options)


class _JsonRequest(Request):
    """A request that parses JSON with orjson: strict, and several times as fast as the standard library."""

    async def body(self) -> bytes:
        """Return the body, collected in one growing buffer: joining 30 MB at the end would take 20 ms."""
        if not hasattr(self, "_body"):
            collected = bytearray()
            async with aclosing(self.stream()) as pieces:
                async for piece in pieces:
                    collected += piece
            self._body = bytes(collected) if len(collected) < LARGE_BODY_BYTES else cast("bytes", collected)
        return self._body

    async def json(self) -> Any:
        """Parse the body. Long texts of attachments are memoryviews. Raises json.JSONDecodeError."""
        body = await self.body()
        return orjson.loads(body) if len(body) < LARGE_BODY_BYTES else await parse_large(body)


def separate(routes: Iterable[BaseRoute]) -> None:
    """Stop a parameter at the end of a path from matching another path's last word: `{message_id}` is never `search`.

    A wrong method at such a path then gives 405, not "Message not found".
    """
    http_routes = [route for route in routes if isinstance(route, Route)]
    paths = {route.path_format.rpartition("/")[::2] for route in http_routes}
    for route in http_routes:
        parent, _, last = route.path_format.rpartition("/")
        words = sorted(word for path, word in paths if path == parent and word and "{" not in word)
        if last.startswith("{") and last.endswith("}") and words:
            group = f"(?P<{last[1:-1]}>"
            reserved = f"(?!(?:{'|'.join(map(re.escape, words))})$)"
            route.path_regex = re.compile(route.path_regex.pattern.replace(group, group + reserved))


def access_of(route: APIRoute) -> Access | None:
    """Return the Access that a route declares; None if it declares none, which is a bug."""
    return next(_accesses(route.dependant), None)


def _accesses(dependant: Dependant) -> Iterator[Access]:
    if isinstance(dependant.call, Access):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from _accesses(dependency)


def _bounded(request: Request, limit: int) -> Receive:
    """Return a `receive` for at most `limit` bytes of body and a limited number of JSON values. It raises TooLarge."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    gauge = JsonGauge() if "json" in request.headers.get("content-type", "").lower() else None
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if gauge is not None and piece:
            gauge.feed(piece)
        return message

    return receive


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body of this request may have at most {limit} bytes")
