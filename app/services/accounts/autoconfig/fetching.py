"""Fetches small documents from hosts that an address names: only https, each redirect checked like a first request."""

from __future__ import annotations

import ssl
from urllib.parse import urljoin, urlsplit

import httpx2

from app.errors import Unreachable
from app.security.http import GuardedTransport, client_options
from app.security.netguard import NetGuard
from app.wire.autoconfig.xml import MAX_BYTES

MAX_REDIRECTS = 3
MAX_URL_CHARS = 2_000
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Fetcher:
    """`port` is the https port; URLs with other ports are not followed."""

    def __init__(self, guard: NetGuard, tls: ssl.SSLContext, port: int = 443) -> None:
        self._guard = guard
        self._tls = tls
        self._port = port

    async def get(self, url: str) -> bytes | None:
        """Return the document, at most 64 KiB; None if it does not exist or is not allowed.

        Raises AddressNotAllowed, Unreachable, TimedOut, ServerProtocolError.
        """
        return await self._ask("GET", url, None)

    async def post(self, url: str, xml: bytes) -> bytes | None:
        """Return the answer to this document. As `get`."""
        return await self._ask("POST", url, xml)

    async def _ask(self, method: str, url: str, body: bytes | None) -> bytes | None:
        transport = GuardedTransport(self._guard, self._tls, MAX_BYTES)
        headers = {} if body is None else {"Content-Type": "text/xml; charset=utf-8"}
        async with httpx2.AsyncClient(**{**client_options(self._guard, self._tls), "transport": transport}) as client:
            for _ in range(MAX_REDIRECTS + 1):
                self._check(url)
                response = await client.request(method, url, content=body, headers=headers)
                if response.status_code not in _REDIRECTS:
                    return response.content if response.status_code == 200 else None
                url = urljoin(url, response.headers.get("location", ""))
        raise Unreachable("The host redirects too often")

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError:
            raise Unreachable("The host redirects to an invalid URL") from None
        if parts.scheme != "https" or port not in (443, self._port) or "@" in parts.netloc or len(url) > MAX_URL_CHARS:
            raise Unreachable("The host redirects to a URL that is not allowed")

    def url(self, host: str, path: str) -> str:
        """Return the URL of a path at a host."""
        return f"https://{host}{path}" if self._port == 443 else f"https://{host}:{self._port}{path}"
