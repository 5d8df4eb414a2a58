"""The API's description and an explorer, which serves its own assets and so works without internet access."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from swagger_ui_bundle import swagger_ui_path

from app.api.deps import PublicAccess
from app.api.openapi import asyncapi_text, openapi_text
from app.api.problems import problems
from app.api.routing import Router
from app.errors import NotFound

router = Router(tags=["service"], dependencies=[PublicAccess])

_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CACHED = {"Cache-Control": "public, max-age=86400"}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Postgate API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="explorer"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/v1/openapi.json",
  dom_id: "#explorer",
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
  requestInterceptor: (request) => {
    const url = new URL(request.url, location.href);
    request.url = location.origin + url.pathname + url.search;
    return request;
  },
});
"""
"""Send calls to the page's own origin, regardless of the servers in the description."""


@router.get(
    "/v1/openapi.json",
    operation_id="getOpenApi",
    responses={200: {"content": {"application/json": {"schema": {"type": "string"}}}}},
)
async def get_openapi(request: Request) -> Response:
    """Get this description (OpenAPI 3.1)."""
    return Response(openapi_text(request.app.openapi()), media_type="application/json")


@router.get(
    "/v1/asyncapi.yaml",
    operation_id="getAsyncApi",
    response_class=Response,
    responses={200: {"content": {"application/yaml": {"schema": {"type": "string"}}}}},
)
async def get_asyncapi() -> Response:
    """Get the description of the stream (AsyncAPI 3.1)."""
    return Response(asyncapi_text(), media_type="application/yaml")


@router.get("/docs", include_in_schema=False)
async def get_explorer() -> HTMLResponse:
    """Return the explorer's page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _CONTENT_POLICY, "Referrer-Policy": "no-referrer"})


@router.get("/docs/start.js", include_in_schema=False)
async def get_start() -> Response:
    return Response(_START, media_type="text/javascript", headers=_CACHED)


@router.get("/docs/{asset}", include_in_schema=False, responses=problems(NotFound))
async def get_asset(asset: str) -> FileResponse:
    if asset not in _ASSETS:
        raise NotFound
    return FileResponse(str(swagger_ui_path / asset), media_type=_ASSETS[asset], headers=_CACHED)
