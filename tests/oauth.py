"""An OAuth app at the test authorization server, as the API takes it."""

from __future__ import annotations

from typing import Any

from tests.servers.authorization_server import CLIENT_ID, CLIENT_SECRET, AuthorizationServer

DONE = "https://app.test/done"


def app_order(authority: AuthorizationServer, **servers: dict[str, Any]) -> dict[str, Any]:
    """The body of `POST /v1/oauth-apps`; `servers` are those that its tokens are for."""
    return {
        "provider": "custom",
        "name": "Test mail",
        "authorization_url": f"{authority.url}/authorize",
        "token_url": f"{authority.url}/token",
        "issuer": authority.url,
        "scopes": ["mail"],
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "servers": servers,
        "redirect_urls": [DONE],
    }
