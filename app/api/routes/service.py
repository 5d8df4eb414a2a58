"""The service itself: versions, health and metrics."""

from __future__ import annotations

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.api.deps import InstallAdmin, PublicAccess
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.base import AnswerModel
from app.api.services import HealthService
from app.services.health import NotReady
from app.version import VERSION

router = Router(tags=["service"])


class Root(AnswerModel):
    """The service, with the paths of its resources."""

    name: str
    version: str
    api_version: str
    links: dict[str, str]


class HealthAnswer(AnswerModel):
    """The service is healthy."""

    status: str


@router.get("/v1", operation_id="getService", dependencies=[PublicAccess])
async def get_service() -> Root:
    """Get the name and versions of the service."""
    links = {
        "accounts": "/v1/accounts",
        "stream": "/v1/stream",
        "openapi": "/v1/openapi.json",
        "asyncapi": "/v1/asyncapi.yaml",
        "docs": "/docs",
        "health": "/v1/health/ready",
    }
    return Root(name="Postgate", version=VERSION, api_version="1", links=links)


@router.get("/v1/health/live", operation_id="getLiveness", dependencies=[PublicAccess])
async def get_liveness() -> HealthAnswer:
    """Check that the process is running."""
    return HealthAnswer(status="live")


@router.get("/v1/health/ready", operation_id="getReadiness", dependencies=[PublicAccess], responses=problems(NotReady))
async def get_readiness(health: HealthService) -> HealthAnswer:
    """Check that the process accepts requests: its database and disk work, and it is not shutting down."""
    await health.check()
    return HealthAnswer(status="ready")


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(_: InstallAdmin) -> Response:
    """Get metrics in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
