"""`GET /v1/stream`: the WebSocket stream of events."""

from __future__ import annotations

from fastapi import WebSocket

from app.api import origins
from app.api.deps import Caller, Scope, Services, authenticate, redeem, services_of
from app.api.routing import Router
from app.api.stream.session import StreamSession
from app.api.stream.socket import CloseCode
from app.errors import GatewayError, NotPermitted

router = Router()

STREAM_PATH = "/v1/stream"
SUBPROTOCOL = "postgate.v1"


@router.websocket(STREAM_PATH)
async def stream(websocket: WebSocket) -> None:
    """Accept the connection, authenticate it by header, ticket or `auth` frame, and run the stream."""
    services = services_of(websocket)
    origin = websocket.headers.get("origin")
    host = websocket.headers.get("host", "")

    def is_allowed(caller: Caller) -> bool:
        return origin is None or origins.is_allowed(origin, host, services.settings, caller)

    if origin is not None and not await _may_connect(services, origin, host):
        await websocket.close(CloseCode.SCOPE)  # before accepting: the client gets 403
        return
    try:
        caller = await _caller_of(websocket)
        refusal = None
        if caller is not None and not is_allowed(caller):
            refusal = CloseCode.SCOPE
    except NotPermitted:
        caller, refusal = None, CloseCode.SCOPE
    except GatewayError:
        caller, refusal = None, CloseCode.TOKEN
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    if refusal is not None:
        await websocket.close(refusal, "the token is not valid here")
        return
    await StreamSession(websocket, services, caller, is_allowed).run()


async def _may_connect(services: Services, origin: str, host: str) -> bool:
    """Whether a web page of this origin may connect. Its token is checked later, when it is known.

    A Host other than PUBLIC_URL's is refused, because DNS rebinding can point any name at Postgate.
    """
    is_own = origins.is_own_host(host, services.settings)
    return is_own and await origins.may_ask(origin, host, STREAM_PATH, services.settings, services.tokens.origins)


async def _caller_of(websocket: WebSocket) -> Caller | None:
    """Return the caller of the ticket or header; None if the client must send an `auth` frame."""
    ticket = websocket.query_params.get("ticket")
    if ticket is not None:
        caller = await redeem(websocket, ticket)
    elif "authorization" in websocket.headers:
        caller = await authenticate(websocket)
    else:
        return None
    caller.require(Scope.PUSH)
    return caller
