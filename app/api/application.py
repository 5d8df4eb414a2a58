"""The HTTP application: routers, problems and middleware put together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from app.api import problems
from app.api.middleware import Edge, MePaths
from app.api.routes import ROUTERS

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_api(lifespan: Lifespan | None = None) -> FastAPI:
    """An application without services; whoever serves it puts them at `app.state.services` before a request comes."""
    app = FastAPI(
        title="Postgate",
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Edge)
    app.add_middleware(MePaths)
    return app
