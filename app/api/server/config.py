"""Builds the HTTP server's configuration from the settings."""

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
"""Connections that wait to be accepted: few, so that a flood does not use the process's descriptors."""


def limits_of(settings: Settings, members: int, strangers: int) -> HttpLimits:
    """Return the limits of the settings, within the descriptors available for members and strangers."""
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
    """Return uvicorn's settings; the two protocol classes implement limits that uvicorn lacks."""
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
