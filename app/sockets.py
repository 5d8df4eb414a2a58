"""Bounds and resets connections whose client does not read."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

_DROP_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: closing sends RST and frees unsent data."""


def reset(transport: asyncio.WriteTransport) -> None:
    """Reset a connection.

    The client sees a reset instead of a regular end, so that it does not take a partial answer for a complete one. The
    kernel frees its send buffer, which it would otherwise keep while the client is reachable.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):  # already closed
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_AT_CLOSE)
    transport.abort()


def bound_send_buffer(transport: asyncio.BaseTransport, size_bytes: int) -> None:
    """Limit what the kernel buffers for a client that does not read; by default it buffers megabytes."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)
