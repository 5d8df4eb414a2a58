"""What happens to every request before a route and to every answer after it: pure ASGI, no task of its own."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from app.services.callers import ME

_ME, _ACCOUNT = f"/v1/{ME}", f"/v1/accounts/{ME}"


class MePaths:
    """`/v1/me/…` is another spelling of `/v1/accounts/me/…`, so that every route below an account exists once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(_ME) and path[len(_ME) :][:1] in ("", "/"):
            scope = {**scope, "path": _ACCOUNT + path[len(_ME) :]}
        await self._app(scope, receive, send)
