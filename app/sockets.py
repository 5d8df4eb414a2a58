"""Connections whose client does not read: bounded while they last, and ended without waiting for it."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

_DROP_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: closing sends RST and frees what the client has not taken."""


def reset(transport: asyncio.WriteTransport) -> None:
    """End a connection at once.

    The client sees a reset after what it had received: an end that nobody takes for a whole answer. The kernel frees
    its send buffer, which it would otherwise keep for as long as the client answers.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):  # it is closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_AT_CLOSE)
    transport.abort()


def bound_send_buffer(transport: asyncio.BaseTransport, size_bytes: int) -> None:
    """Let the kernel keep at most this much for a client that does not read; by itself it keeps megabytes."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)
