"""gzip for JSON responses (RFC 9110 §8.4.1) that do not mix secrets with content from third parties (BREACH).

A compressed response is a separate representation: its ETag ends in `-gzip"` (§8.8.3). Request headers may use either
ETag for the same state.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

MINIMUM_BYTES = 1024
THREAD_BYTES = 128 * 1024
"""Larger bodies are compressed in a thread."""
LEVEL = 4
SUFFIX = "-gzip"
_NEVER = ("/v1/tokens", "/v1/session", "/v1/stream", "/v1/connect", "/v1/oauth-apps", "/v1/links")
"""Paths whose responses contain secrets."""
_LINK = b"/v1/links/"
"""A response with this text contains signed links, which are secrets, next to content from third parties."""
_NEVER_LAST = ("links", "tickets", "raw")


class Compressing:
    """Sends a response, compressed if it is large and the client accepts gzip.

    Every response that can be compressed has `Vary: Accept-Encoding`.
    """

    __slots__ = ("_scope", "_send", "_start_message")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._start_message: Message | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._start_message is not None:
            await self._first_of_body(self._start_message, message)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        headers = MutableHeaders(raw=message["headers"])
        if message["status"] == 304:
            self._name_encoded(headers)
        elif _is_compressible(self._scope, message["status"], headers):
            headers.add_vary_header("Accept-Encoding")
            if _takes_gzip(self._scope):
                self._start_message = message
                return
        await self._send(message)

    async def _first_of_body(self, start: Message, message: Message) -> None:
        self._start_message = None
        body = message.get("body", b"")
        if len(body) >= MINIMUM_BYTES and not message.get("more_body", False) and _LINK not in body:
            body = await asyncio.to_thread(_gzip, body) if len(body) >= THREAD_BYTES else _gzip(body)
            message = {**message, "body": body}
            headers = MutableHeaders(raw=start["headers"])
            headers["content-encoding"] = "gzip"
            headers["content-length"] = str(len(body))
            _suffix(headers)
        await self._send(start)
        await self._send(message)

    def _name_encoded(self, headers: MutableHeaders) -> None:
        """Give a 304 response the `-gzip` ETag if the client's If-None-Match has it."""
        headers.add_vary_header("Accept-Encoding")
        etag, known = headers.get("etag", ""), Headers(scope=self._scope).get("if-none-match", "")
        if etag.endswith('"') and f'{etag[:-1]}{SUFFIX}"' in known:
            _suffix(headers)


def without_suffix(tag: str) -> str:
    """Return the ETag of the state from the ETag of one of its representations, both without quotes."""
    return tag.removesuffix(SUFFIX)


def _suffix(headers: MutableHeaders) -> None:
    etag = headers.get("etag", "")
    if etag.endswith('"'):
        headers["etag"] = f'{etag[:-1]}{SUFFIX}"'


def _is_compressible(scope: Scope, status: int, headers: Headers) -> bool:
    if status == 206 or any(name in headers for name in ("content-encoding", "content-disposition", "accept-ranges")):
        return False
    media_type = headers.get("content-type", "").partition(";")[0]
    if media_type != "application/json" and not media_type.endswith("+json"):
        return False
    path: str = scope["path"]
    return not path.startswith(_NEVER) and path.rpartition("/")[2] not in _NEVER_LAST


def _takes_gzip(scope: Scope) -> bool:
    """Whether Accept-Encoding has gzip with a weight above 0 (RFC 9110 §12.5.3), and the request has no Range."""
    headers = Headers(scope=scope)
    if "range" in headers:
        return False
    for item in ",".join(headers.getlist("accept-encoding")).lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() in ("gzip", "x-gzip"):
            return _is_above_zero(weight.replace(" ", ""))
    return False


def _is_above_zero(weight: str) -> bool:
    name, _, value = weight.partition("=")
    return name != "q" or value.strip("0.") != ""


def _gzip(body: bytes) -> bytes:
    packer: Any = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packed: bytes = packer.compress(body) + packer.flush()
    return packed
