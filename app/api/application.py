"""The HTTP application: routers, error handlers and middleware."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

from fastapi import FastAPI
from starlette.routing import BaseRoute

from app.api import problems
from app.api.middleware import Edge, MePaths
from app.api.openapi import describe
from app.api.planned import planned_routes
from app.api.routes import ROUTERS
from app.api.routing import separate
from app.version import VERSION

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Api(FastAPI):
    """FastAPI with an OpenAPI document that includes what all routes share."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, built on the first call."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(self, ROUTERS)
        return self.openapi_schema


def create_api(lifespan: Lifespan | None = None) -> FastAPI:
    """Return an application without services. The server sets `app.state.services` before the first request."""
    app = Api(
        title="Postgate",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    problems.install(app)
    app.router.routes.extend(_routes())
    app.add_middleware(Edge)
    app.add_middleware(MePaths)
    return app


@cache
def _routes() -> Sequence[BaseRoute]:
    """Return every route in matching order, in a flat list: `include_router` would match every path twice."""
    routes = [route for router in ROUTERS for route in router.routes]
    routes.extend(planned_routes())
    separate(routes)
    return routes
