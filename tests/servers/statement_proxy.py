"""A proxy before PostgreSQL that strikes right after the server has carried out the Nth statement."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_SSL_REQUEST = 80877103
"""The code in the first message of a client that would like TLS (PostgreSQL's protocol, `SSLRequest`)."""
_READY_FOR_QUERY = b"Z"


class StatementProxy:
    """`url` is the address of the database behind it. `statements` counts those that the server answered.

    After the statement `strike_after` the server's answer is held back, `strike()` is called, and the connection is
    cut. Later statements pass.
    """

    def __init__(self, database_url: str, strike_after: int | None = None) -> None:
        self._target = urlsplit(database_url)
        self._strike_after = strike_after
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.strike: Callable[[], None] = lambda: None
        self.statements = 0
        port = self._listener.getsockname()[1]
        self.url = self._target._replace(netloc=f"{self._target.username}@127.0.0.1:{port}").geturl()

    def __enter__(self) -> Self:
        _in_thread(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def has_struck(self) -> bool:
        return self._strike_after is not None and self.statements >= self._strike_after

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                _in_thread(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection((self._target.hostname, self._target.port)) as server:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = _start_of(client)
            server.sendall(first)
            _in_thread(_pass_on, client, server)
            self._answer(server, client)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        """Pass on what the server says, message by message: a type byte, the length with its own four bytes, data."""
        with server.makefile("rb") as messages:
            while head := messages.read(5):
                message = head + messages.read(struct.unpack("!xI", head)[0] - 4)
                if head[:1] == _READY_FOR_QUERY and self._strikes():
                    self.strike()
                    _end(client, server)
                    return
                client.sendall(message)
        _end(client, server)

    def _strikes(self) -> bool:
        with self._lock:
            self.statements += 1
            return self.statements == self._strike_after


def _start_of(client: socket.socket) -> bytes:
    """The client's first message, after TLS was declined where it asked for that."""
    first = client.recv(8, socket.MSG_WAITALL)
    if len(first) == 8 and struct.unpack("!II", first)[1] == _SSL_REQUEST:
        client.sendall(b"N")
        return b""
    return first


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _end(source, target)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _in_thread(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
