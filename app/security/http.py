"""HTTP requests to untrusted hosts: checked addresses (see netguard), no redirects, no proxy, limited bodies."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
from typing_extensions import override

from app.errors import InvalidRequest, ServerProtocolError, TimedOut, Unreachable
from app.security.netguard import NetGuard

MAX_BODY_BYTES = 256 * 1024
CONNECT_SECONDS = 5.0
STEP_SECONDS = 10.0
MAX_URL_CHARS = 2_000


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Connects only to addresses that the guard has checked. The certificate must name the host.

    Each connection serves one request, so that a connection to one host is not reused for another host at the same
    address. Raises AddressNotAllowed, InvalidRequest, Unreachable, TimedOut, ServerProtocolError.
    """

    def __init__(self, guard: NetGuard, tls: ssl.SSLContext, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._guard = guard
        self._max_body_bytes = max_body_bytes
        limits = httpx2.Limits(max_connections=10, max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False, limits=limits)

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        failure = Unreachable(f"{host} cannot be reached")
        for address in await self._guard.addresses(host):
            request.url = request.url.copy_with(host=address)
            request.extensions = {**request.extensions, "sni_hostname": host}
            try:
                return self._bounded(await self._inner.handle_async_request(request))
            except httpx2.ConnectError:
                continue
            except httpx2.TimeoutException:
                failure = TimedOut(f"{host} did not respond in time")
            except httpx2.RemoteProtocolError:
                raise ServerProtocolError(f"{host} sent an invalid HTTP response") from None
            except httpx2.TransportError:
                raise Unreachable(f"The connection to {host} was lost") from None
        raise failure

    def _bounded(self, response: httpx2.Response) -> httpx2.Response:
        """Limit the size of the body, and refuse compressed bodies, which could exceed it when decompressed."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ServerProtocolError("The response is compressed, which was not requested")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        stream = _Bounded(response.stream, self._max_body_bytes)
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream)

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._left = limit

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                self._left -= len(piece)
                if self._left < 0:
                    raise ServerProtocolError("The response is too long")
                yield piece
        except httpx2.TimeoutException:
            raise TimedOut("The response did not end in time") from None
        except httpx2.TransportError:
            raise Unreachable("The connection was lost during the response") from None

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()


def client_options(guard: NetGuard, tls: ssl.SSLContext) -> Mapping[str, Any]:
    """Arguments for an httpx2 client. Use them for one client: its transport is closed with it."""
    return {
        "transport": GuardedTransport(guard, tls),
        "follow_redirects": False,
        "trust_env": False,
        "timeout": httpx2.Timeout(STEP_SECONDS, connect=CONNECT_SECONDS),
        "headers": {"Accept-Encoding": "identity", "User-Agent": "Postgate"},
    }


async def check_url(url: str, guard: NetGuard) -> None:
    """Check that a URL may be called. It must be https, or http to a network that the installation allows.

    A host name without an address is accepted, because it may get one later. Raises InvalidRequest, AddressNotAllowed.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidRequest("Must be a URL") from None
    is_plain = url.isascii() and url.isprintable() and not any(character in url for character in ' \\"<>')
    if not is_plain or len(url) > MAX_URL_CHARS or parts.scheme not in ("https", "http") or "@" in parts.netloc:
        raise InvalidRequest("Must be an https URL")
    try:
        addresses = await guard.addresses(host)
    except Unreachable:
        addresses = []
    if parts.scheme == "http" and not (addresses and all(guard.is_listed(address) for address in addresses)):
        raise InvalidRequest("Must be an https URL")
