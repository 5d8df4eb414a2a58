"""The interface of a mail server's conversation: bytes in, steps out, without sockets, clocks or tasks.

IMAP, POP3 and SMTP each implement `Conversation`; `listener.py`, the pump, moves bytes between it and a socket:

1. `greet()` is sent.
2. `receive(data)` takes what the client sent, in pieces of any size. It buffers incomplete requests and never
   answers. A long literal goes directly to a spool (`Blobs.writer()`), so that memory is bounded; the pump does not
   read until `receive` has returned, which is the back-pressure.
3. `next_step()` is called until it returns None: it needs more bytes. Each step is completed before the next call,
   so that replies keep the order of pipelined commands, and a conversation's state has one writer:
   * `Reply(data)`: bytes to send.
   * `Work(run)`: anything that waits. `run(out)` may send (`await out.send(data)`, which waits while the client is
     slow), changes the conversation's state, and may cause further steps.
   * `StartTls(reply)`: the reply is the last plaintext. Bytes that the client sent after its command are discarded, by
     the pump and, before it returns this step, by the conversation. Then `peer.is_encrypted` is True.
   * `Close(reply)`: close after these last bytes.
4. Between requests the pump waits for bytes, and for `peer.waiter`, a waiter of the bus: listen with it
   (`bus.listen(peer.waiter, account_id)`) for unsolicited responses (IDLE, NOTIFY). After a poke, `woken(topics)` is
   called, then `next_step()` as above; so a push is a step like any other and never races a command.
5. `timeout_seconds` is how long the client may take to begin or to finish a request. It is read before each wait, so a
   conversation can change it with its state. The clock restarts when a request has led to a step. Single bytes do not
   restart it, but a long transfer earns one second for each KiB. A poke does not restart it.
6. When the pump ends a conversation itself (timeout, shutdown, a bug, a login that is no longer valid), it sends
   `farewell(reason)`.
7. `close()` is called once at the end in every case: release locks, discard spools, leave the bus.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from app.cluster.bus import Waiter
from app.services.access.logins import Login


class ClientLost(Exception):
    """The client has disconnected, does not read, or failed the TLS handshake. Only the pump catches it."""


class ReplyWriter(Protocol):
    async def send(self, data: bytes) -> None:
        """Send after earlier output; wait while the client does not read. Raises ClientLost."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    data: bytes


@dataclass(frozen=True, slots=True)
class Work:
    run: Callable[[ReplyWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StartTls:
    reply: bytes


@dataclass(frozen=True, slots=True)
class Close:
    reply: bytes = b""


Step = Reply | Work | StartTls | Close


class Farewell(Enum):
    """Why the pump ends a conversation."""

    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    OVERLOAD = "overload"
    """Too many connections: sent instead of the greeting."""
    FAULT = "fault"
    REVOKED = "revoked"
    """The account's password or rights have changed since the login."""


@dataclass(slots=True)
class Client:
    """The connected client.

    `claim` admits a login: it counts against the limit per user and address (RateLimited), and the connection ends when
    the login is no longer valid. A login sets `is_known`; `messages` counts messages delivered without a login. A
    client that does neither has a limited total time.
    """

    address: str
    is_loopback: bool
    is_encrypted: bool
    can_start_tls: bool
    """Whether there is a certificate, so that STARTTLS may be offered while not `is_encrypted`."""
    claim: Callable[[Login], None] = lambda _login: None
    waiter: Waiter = field(default_factory=Waiter)
    is_known: bool = False
    messages: int = 0

    @property
    def may_log_in(self) -> bool:
        """Whether the client may send a password: under TLS, or over loopback."""
        return self.is_encrypted or self.is_loopback


class Conversation(Protocol):
    @property
    def timeout_seconds(self) -> float: ...

    def greet(self) -> bytes: ...

    def receive(self, data: bytes) -> None: ...

    def next_step(self) -> Step | None: ...

    def woken(self, topics: Set[str]) -> None: ...

    def farewell(self, reason: Farewell) -> bytes: ...

    def close(self) -> None: ...


Answer = Callable[[Client], Conversation]
"""Starts the conversation with a connected client."""
