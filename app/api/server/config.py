"""The HTTP server's configuration, made of the settings."""

from __future__ import annotations

from fastapi import FastAPI

from app.api.server.connections import Connections, HttpLimits
from app.api.server.http import HttpProtocol, ServerConfig
from app.api.server.websocket import WebSocketProtocol
from app.security.addresses import Proxies
from app.settings import Settings

MESSAGE_BYTES = 1024 * 1024
"""Largest message that a client may send on a WebSocket."""
BACKLOG = 256
"""Connections that wait to be accepted: few, so that a flood waits in the kernel and not in our descriptors."""


def limits_of(settings: Settings, members: int, strangers: int) -> HttpLimits:
    """The limits that the settings ask for, within the shares of descriptors for members and strangers."""
    return HttpLimits(
        head_bytes=settings.http_head_bytes,
        head_seconds=settings.http_head_seconds,
        body_seconds=settings.http_body_seconds,
        body_bytes_per_second=settings.http_body_bytes_per_second,
        write_seconds=settings.http_write_seconds,
        total=members + strangers,
        strangers=min(settings.http_strangers, strangers),
        strangers_per_address=settings.http_strangers_per_address,
        proxies=Proxies(settings.trusted_proxies),
    )


def server_config(settings: Settings, application: FastAPI, connections: Connections) -> ServerConfig:
    """uvicorn's own settings where it has one, ours in the two protocol classes."""
    proxies = [str(network) for network in settings.trusted_proxies]
    return ServerConfig(
        application,
        connections,
        host=settings.bind,
        port=settings.http_port,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=settings.http_idle_seconds,
        lifespan="off",
    )
