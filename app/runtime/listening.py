"""Binds ports, with an error that names the setting of a port that cannot be bound."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from app.errors import GatewayError


class CannotListen(GatewayError):
    code = "cannot_listen"

    def __init__(self, name: str, bind: str, port: int, error: OSError) -> None:
        """`name` is the server's name in the setting of its port, such as "imap"."""
        is_number = error.errno is not None and error.errno > 0 and not isinstance(error, socket.gaierror)
        reason = os.strerror(error.errno) if is_number and error.errno else error.strerror or str(error)
        super().__init__(f"POSTGATE_{name.upper()}_PORT: cannot listen on {bind} port {port}: {reason}")


@contextmanager
def bound(bind: str, port: int, name: str) -> Iterator[list[socket.socket]]:
    """Sockets that are bound to a port on every address of `bind`, not listening yet; closed after the block.

    Raises CannotListen if the port is in use.
    """
    with ExitStack() as stack:
        try:
            addresses = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            sockets = [_bound(stack, family, address) for family, _, _, _, address in dict.fromkeys(addresses)]
        except OSError as error:
            raise CannotListen(name, bind, port, error) from None
        yield sockets


def _bound(stack: ExitStack, family: int, address: tuple[object, ...]) -> socket.socket:
    listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(address)
    return listener
