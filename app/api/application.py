"""The HTTP application: routers, problems and middleware put together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from app.api import problems
from app.api.middleware import Edge, MePaths
from app.api.openapi import describe
from app.api.planned import planned_routes
from app.api.routes import ROUTERS
from app.api.routing import separate
from app.version import VERSION

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Api(FastAPI):
    """FastAPI whose description is completed by what every route has in common."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(self, ROUTERS)
        return self.openapi_schema


def create_api(lifespan: Lifespan | None = None) -> FastAPI:
    """An application without services; whoever serves it puts them at `app.state.services` before a request comes."""
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
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # flat: `include_router` would match every path twice
    app.router.routes.extend(planned_routes())
    separate(app.router.routes)
    app.add_middleware(Edge)
    app.add_middleware(MePaths)
    return app
