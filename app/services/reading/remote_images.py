"""Fetches remote images of messages for the reader, so that the sender learns nothing about the reader.

The URL comes from a stranger's message. Every address that its host resolves to is checked, at each redirect again,
and the connection is made to the checked address. Only a raster image, recognised by its first bytes, is returned.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2

from app.errors import GatewayError, ImageNotAvailable
from app.mail.types import AccountId
from app.parsing.shared import SingleFlight
from app.security.http import GuardedTransport
from app.security.netguard import NetGuard
from app.services.reading.cache import RecentBytes

MAX_BYTES = 5 * 1024 * 1024
MAX_REDIRECTS = 3
SECONDS = 10.0
"""The deadline for everything: waiting for a turn, name look-ups, redirects and the last byte."""
CONNECT_SECONDS = 4.0
CACHE_BYTES = 64 * 1024 * 1024
KEEP_SECONDS = 3600
OF_HOST_AT_ONCE = 4
"""Fetches of one host for one account: a host that hangs does not delay images of other hosts."""
OF_ACCOUNT_AT_ONCE = 12
AT_ONCE = 64
_HEADERS = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "User-Agent": "Mozilla/5.0 (compatible; ImageProxy)",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"\x00\x00\x01\x00": "image/x-icon",
    b"BM": "image/bmp",
}


@dataclass(frozen=True, slots=True)
class RemoteImage:
    media_type: str
    content: bytes


class RemoteImages:
    """Fetches images, a few at a time, and caches them for an hour in bounded memory."""

    def __init__(self, guard: NetGuard, tls: ssl.SSLContext) -> None:
        self._guard = guard
        self._tls = tls
        self._cache = RecentBytes(CACHE_BYTES)
        self._fetching: SingleFlight[bytes] = SingleFlight()
        self._turns = _Turns()

    async def get(self, account_id: AccountId, url: str) -> RemoteImage:
        """Return the image at a URL for a reader of this account. Raises ImageNotAvailable."""
        key = hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()
        cached = self._cache.get(key)
        if cached is None or int.from_bytes(cached[:8]) < time.monotonic_ns():
            content = await self._fetching.run(f"{account_id} {key}", lambda: self._fetched(account_id, url))
            cached = (time.monotonic_ns() + KEEP_SECONDS * 10**9).to_bytes(8) + content
            self._cache.put(key, cached)
        content = cached[8:]
        return RemoteImage(raster_type(content) or "", content)

    async def _fetched(self, account_id: AccountId, url: str) -> bytes:
        try:
            async with asyncio.timeout(SECONDS):
                content = await self._followed(account_id, url)
        except TimeoutError:
            raise ImageNotAvailable("The server of the image did not answer in time") from None
        except ImageNotAvailable:
            raise
        except (GatewayError, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ValueError):
            raise ImageNotAvailable("The server of the image cannot be reached or may not be used") from None
        if raster_type(content) is None:
            raise ImageNotAvailable("The URL does not return a raster image")
        return content

    async def _followed(self, account_id: AccountId, url: str) -> bytes:
        """Return the content of a URL, after at most MAX_REDIRECTS redirects."""
        for _ in range(MAX_REDIRECTS + 1):
            target = _target(url)
            async with self._turns.one(account_id, target.host):
                content, next_url = await self._response_to(target)
            if next_url is None:
                return content
            url = next_url
        raise ImageNotAvailable("The image is redirected too often")

    async def _response_to(self, url: httpx2.URL) -> tuple[bytes, str | None]:
        """Return the content, or the redirect's URL. Requests share no connection and no cookie."""
        transport = GuardedTransport(self._guard, self._tls, MAX_BYTES)
        timeout = httpx2.Timeout(SECONDS, connect=CONNECT_SECONDS)
        client = httpx2.AsyncClient(transport=transport, trust_env=False, headers=_HEADERS, timeout=timeout)
        async with client, client.stream("GET", url, follow_redirects=False) as answer:
            if answer.status_code in _REDIRECTS and "location" in answer.headers:
                return b"", str(url.join(answer.headers["location"]))
            if answer.status_code != 200:
                raise ImageNotAvailable("The server of the image does not have it")
            return await _read(answer), None


async def _read(answer: httpx2.Response) -> bytes:
    """Read the whole response. Stop early if it does not begin as a raster image."""
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) >= 16 and raster_type(bytes(content[:16])) is None:
            raise ImageNotAvailable("The URL does not return a raster image")
    return bytes(content)


def _target(text: str) -> httpx2.URL:
    """Return the URL to fetch: http or https, without user and fragment. Raises ImageNotAvailable."""
    url = httpx2.URL(text).copy_with(userinfo=b"", fragment=None)
    if url.scheme not in ("http", "https") or not url.host:
        raise ImageNotAvailable("The image has no http or https URL")
    return url


def raster_type(content: bytes) -> str | None:
    """Return the media type of a raster image by its first bytes; None for anything else, including SVG."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return next((kind for begin, kind in _BEGINNINGS.items() if content.startswith(begin)), None)


class _Turns:
    """Bounds concurrent fetches. A fetch waits for its host's turn before it takes a turn of the account and of all."""

    def __init__(self) -> None:
        self._limits: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, account_id: AccountId, host: str) -> AsyncIterator[None]:
        places = ((f"{account_id} {host}", OF_HOST_AT_ONCE), (account_id, OF_ACCOUNT_AT_ONCE), ("", AT_ONCE))
        async with AsyncExitStack() as stack:
            for key, limit in places:
                await stack.enter_async_context(self._place(key, limit))
            yield

    @asynccontextmanager
    async def _place(self, key: str, limit: int) -> AsyncIterator[None]:
        turns = self._limits.setdefault(key, asyncio.Semaphore(limit))
        self._users[key] += 1
        try:
            async with turns:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._limits[key]
