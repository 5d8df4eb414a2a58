"""REST calls in `request` frames: same application, same rights, same socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocket

from app.api.deps import CALLER_KEY
from app.api.problems import problem_of
from app.api.schemas.stream import RequestFrame, ResponseFrame
from app.api.stream.socket import CloseCode, StreamClosed, StreamSocket
from app.cause import current_cause
from app.errors import GatewayError, TooLarge
from app.services.access.callers import Caller
from app.telemetry import get_logger

log = get_logger(__name__)

BODY_LIMIT_BYTES = 1024 * 1024
"""The largest response; a larger one requires HTTP."""
CALLS_LIMIT = 8
"""Concurrent calls of one socket."""
_REQUEST_HEADERS = frozenset({"if-match", "if-none-match", "idempotency-key", "accept", "cache-control", "client-id"})
"""Request headers that a frame may have; others are ignored."""
_RESPONSE_HEADERS = frozenset(
    {"etag", "link", "location", "request-id", "retry-after", "idempotency-replayed", "postgate-state", "ratelimit"}
)


class Calls:
    """The running calls of one socket."""

    def __init__(self, websocket: WebSocket, socket: StreamSocket) -> None:
        self._websocket = websocket
        self._socket = socket
        self._running = 0

    def start(self, frame: RequestFrame, caller: Caller, group: asyncio.TaskGroup) -> None:
        """Start a call in its own task with this caller's rights. Raises StreamClosed."""
        if self._running >= CALLS_LIMIT:
            raise StreamClosed(CloseCode.TOO_MANY, "too many calls at once")
        self._running += 1
        group.create_task(self._run(frame, caller))

    async def _run(self, frame: RequestFrame, caller: Caller) -> None:
        try:
            await self._socket.send(await call(self._websocket.app, self._websocket, caller, frame))
        except StreamClosed:
            raise
        except Exception as error:  # noqa: BLE001 - an error of one call: the socket and its other calls continue
            log.error("call_failed", error=type(error).__name__)
            await self._socket.send(_failed(frame.id, GatewayError()))
        finally:
            self._running -= 1


async def call(app: ASGIApp, websocket: WebSocket, caller: Caller, frame: RequestFrame) -> ResponseFrame:
    """Run the request of the frame and return its response."""
    answer = _Answer()
    body = b"" if frame.body is None else json.dumps(frame.body).encode()  # integers of any size, as over HTTP
    await app(_scope(websocket, caller, frame, len(body)), _sender_of(body), answer.take)
    return answer.frame(frame.id)


def _scope(websocket: WebSocket, caller: Caller, frame: RequestFrame, size: int) -> dict[str, Any]:
    path, _, query = frame.path.partition("?")
    headers = [(b"host", websocket.headers.get("host", "localhost").encode())]
    if size:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]
    for name, value in frame.headers.items():
        if name.lower() in _REQUEST_HEADERS:
            headers.append((name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace")))
    cause = current_cause()  # of the handshake
    if cause is not None and cause.client_id is not None and not any(name == b"client-id" for name, _ in headers):
        headers.append((b"client-id", cause.client_id.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": frame.method,
        "scheme": "https" if websocket.scope.get("scheme") == "wss" else "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii", "replace"),
        "query_string": query.encode("ascii", "replace"),
        "root_path": "",
        "headers": headers,
        "client": websocket.scope.get("client"),
        "server": websocket.scope.get("server"),
        "state": {},
        CALLER_KEY: caller,
    }


def _sender_of(body: bytes) -> Any:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not messages:  # the call is cancelled when the socket closes
            await asyncio.get_running_loop().create_future()
        return messages.pop()

    return receive


class _Answer:
    """Collects the application's response, up to a limit."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._is_too_large = False

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
            }
        elif message["type"] == "http.response.body":
            piece = message.get("body", b"")
            self._is_too_large = self._is_too_large or len(self._body) + len(piece) > BODY_LIMIT_BYTES
            if not self._is_too_large:
                self._body += piece

    def frame(self, id_: str) -> ResponseFrame:
        headers = {name: value for name, value in self._headers.items() if name in _RESPONSE_HEADERS}
        if self._is_too_large:
            return _failed(
                id_, TooLarge("The response is too large for the WebSocket: use HTTP"), headers.get("request-id")
            )
        return ResponseFrame(id=id_, status=self._status, headers=headers, body=self._decoded())

    def _decoded(self) -> Any:
        if not self._body:
            return None
        if "json" in self._headers.get("content-type", ""):
            return orjson.loads(self._body)
        return self._body.decode("utf-8", "replace")


def _failed(id_: str, error: GatewayError, request_id: str | None = None) -> ResponseFrame:
    """Return the response of a call that failed outside the application. `request_id` None: the socket's."""
    problem = problem_of(error)
    if request_id is not None:
        problem["request_id"] = request_id
    headers = {"request-id": problem["request_id"]}
    return ResponseFrame(id=id_, status=problem["status"], headers=headers, body=problem)
