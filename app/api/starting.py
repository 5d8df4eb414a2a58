"""The application that answers while Postgate waits for the database at start."""

from __future__ import annotations

from fastapi import FastAPI, Response

from app.api.problems import RETRY_AFTER_SECONDS, problem_response
from app.api.routes.service import get_liveness
from app.services.health import NotReady


def create_starting_api() -> FastAPI:
    """Return an application that is live but not ready."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_api_route("/v1/health/live", get_liveness)
    app.add_route("/{path:path}", _not_ready, ["GET", "POST", "PUT", "PATCH", "DELETE"])
    return app


async def _not_ready(_: object) -> Response:
    response = problem_response(NotReady("The database or disk is not available yet; see the log"))
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response
