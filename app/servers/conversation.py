"""What a mail server's conversation is: bytes in, steps out, no socket, no clock, no task.

IMAP, POP3 and SMTP are each a `Conversation`; `listener.py` pumps bytes between it and a socket:

1. `greet()` is sent.
2. `receive(data)` hands over what the client sent, in pieces of any size. It only takes: it keeps what is not yet whole
   and never answers. A long literal goes straight into a spool (`Blobs.writer()`), so that memory stays flat; the pump
   reads no further until `receive` has returned, which is the back-pressure.
3. `next_step()` is called until it says None, "more bytes, please". Each step is done, to its end, before the next is
   asked for, so that replies keep the order of pipelined commands, and a conversation's state has one writer:
   * `Reply(data)`: bytes to send.
   * `Work(run)`: anything that waits. `run(outlet)` may send as it goes (`await outlet.send(data)`, which waits while
     the client is slow) and changes the conversation; what comes of it may just as well be the next steps.
   * `StartTls(reply)`: the reply is the last plaintext. Bytes that the client sent after its command are discarded, by
     the pump and, before it returns this step, by the conversation. Then `peer.is_encrypted` is True.
   * `Close(reply)`: the end, after these last bytes.
4. Between requests the pump waits for bytes, but also for the conversation's `peer.waiter`, a waiter of the bus: listen
   with it (`bus.listen(peer.waiter, account_id)`) for what the server says on its own (IDLE, NOTIFY). When it is poked,
   `woken(topics)` is called, then `next_step()` as above; so a push is a step like any other and never races a command.
5. `timeout_seconds` is how long the client may take to finish the request that it is in (or to begin one): read before
   each wait, so a conversation changes it with its state. The clock restarts when a request brought a step; a byte
   alone never moves it, but a long transfer earns one second for each KiB. A wake-up does not restart it.
6. When the pump ends a conversation itself (time-out, shutdown, a fault of ours, a login that holds no more) it sends
   `farewell(reason)`.
7. `close()` is called once at the end, whatever happened: release locks, discard spools, leave the bus.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from app.cluster.bus import Waiter
from app.services.access.logins import Login


class ClientLost(Exception):
    """The client is gone, does not read, or failed the TLS handshake. Not to be caught: the pump ends the talk."""


class ReplyWriter(Protocol):
    async def send(self, data: bytes) -> None:
        """Send after all that was sent before; waits while the client does not read. Raises ClientLost."""
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
    """Too many connections: said instead of the greeting."""
    FAULT = "fault"
    REVOKED = "revoked"
    """The account's password or rights have changed since the login."""


@dataclass(slots=True)
class Client:
    """The client at the other end. `claim` admits a login: it counts against the limit per user and address
    (RateLimited), and the connection ends once the login holds no more.

    `is_known` is set by a login; `messages` counts those that it has handed over without one. A client that does
    neither has a limited time in all.
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
        """Whether a password may be sent: under TLS, or without leaving this machine."""
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
"""Begins the conversation with a client that connected."""
