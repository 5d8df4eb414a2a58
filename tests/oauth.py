"""An OAuth app at the test authorization server, and a person's browser on the way to it and back."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qsl

import httpx2

from tests.servers.authorization_server import CLIENT_ID, CLIENT_SECRET, AuthorizationServer

DONE = "https://app.test/done"


def app_order(authority: AuthorizationServer, **servers: dict[str, Any]) -> dict[str, Any]:
    """The body of `POST /v1/oauth-apps`; `servers` are those that its tokens are for."""
    return {
        "provider": "custom",
        "name": "Test mail",
        "authorization_url": f"{authority.url}/authorize",
        "token_url": f"{authority.url}/token",
        "revocation_url": f"{authority.url}/revoke",
        "issuer": authority.url,
        "scopes": ["mail"],
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "servers": servers,
        "redirect_urls": [DONE],
    }


class Browser:
    """A person's browser: it keeps cookies, follows what it is told to, and stops at the app's own page."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def open(self, url: str) -> httpx2.Response:
        return await self._client.get(url)

    async def choose_app(self, url: str, app_id: str, email: str = "") -> str:
        """Press the button of a provider; where that leads."""
        answer = await self._client.post(url, data={"email": email, "app": app_id})
        assert answer.status_code == 200, answer.text
        return left_for(answer.text)

    async def consent(self, authorization_url: str) -> str:
        """Sign in at the provider and agree; where that leads."""
        async with httpx2.AsyncClient() as outside:
            answer = await outside.get(authorization_url)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    async def connect(self, url: str, app_id: str, email: str = "") -> httpx2.Response:
        """The whole way; the last answer of ours."""
        await self.open(url)
        return await self.open(await self.consent(await self.choose_app(url, app_id, email)))


def left_for(page: str) -> str:
    """Where a page that leaves leads to."""
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page)
    assert found is not None, page
    return unescape(found[1])


def outcome_of(answer: httpx2.Response) -> dict[str, str]:
    """What the app's own page is told at the end."""
    assert answer.status_code == 303, answer.text
    base, _, query = str(answer.headers["Location"]).partition("?")
    assert base == DONE
    return dict(parse_qsl(query))
