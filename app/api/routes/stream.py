"""`GET /v1/stream`: new mail and every other change, pushed."""

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
    """Accept, find out who it is (header, ticket, or an `auth` frame), and talk."""
    services = services_of(websocket)
    origin = websocket.headers.get("origin")
    host = websocket.headers.get("host", "")

    def is_allowed(caller: Caller) -> bool:
        return origin is None or origins.is_allowed(origin, host, services.settings, caller)

    if origin is not None and not await _may_connect(services, origin, host):
        await websocket.close(CloseCode.SCOPE)  # before accepting: answered as 403
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
    """Whether a page of this origin may connect at all; whether its token may is asked when that is known.

    A page that reaches us by a foreign name may not: the name may have been rebound to our address.
    """
    is_own = origins.is_own_host(host, services.settings)
    return is_own and await origins.may_ask(origin, host, STREAM_PATH, services.settings, services.tokens.origins)


async def _caller_of(websocket: WebSocket) -> Caller | None:
    """Who it is by ticket or header; None when an `auth` frame is to say it."""
    ticket = websocket.query_params.get("ticket")
    if ticket is not None:
        caller = await redeem(websocket, ticket)
    elif "authorization" in websocket.headers:
        caller = await authenticate(websocket)
    else:
        return None
    caller.require(Scope.PUSH)
    return caller
