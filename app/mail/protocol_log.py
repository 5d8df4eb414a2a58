"""The last lines that an account's connections sent and received, recorded in memory on request.

Lines never hold a secret or a message: each protocol makes them safe first (`app.backends.tracing`).
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.mail.identifiers import now_ms
from app.mail.masking import Masker
from app.mail.types import AccountId

LINES = 500
"""The most lines of an account; older ones are dropped."""
LINE_CHARS = 400
MAX_ACCOUNTS = 200
"""The most accounts that are recorded at a time; starting another ends the oldest recording."""


class Direction(StrEnum):
    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class ProtocolLogLine:
    """`connection` numbers the connections of this process; `protocol`: imap, smtp or pop3."""

    at_ms: int
    protocol: str
    connection: int
    direction: Direction
    text: str


@dataclass(slots=True)
class ConnectionLog:
    until_ms: int
    lines: deque[ProtocolLogLine] = field(default_factory=lambda: deque(maxlen=LINES))


class ProtocolLogs:
    """The protocol logs of this process. An account is recorded only for the requested time."""

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._traces: OrderedDict[AccountId, ConnectionLog] = OrderedDict()
        self._numbers = itertools.count(1)

    def start(self, account_id: AccountId, seconds: int) -> ConnectionLog:
        """Record for this many seconds from now on, keeping earlier lines."""
        trace = self._traces.setdefault(account_id, ConnectionLog(0))
        trace.until_ms = self._clock() + seconds * 1000
        if len(self._traces) > MAX_ACCOUNTS:
            self._traces.popitem(last=False)
        return trace

    def stop(self, account_id: AccountId) -> None:
        """Stop recording and delete the lines."""
        self._traces.pop(account_id, None)

    def of(self, account_id: AccountId) -> tuple[int | None, Sequence[ProtocolLogLine]]:
        """Return when recording ends (None if it is off), and the lines so far, oldest first."""
        trace = self._traces.get(account_id)
        if trace is None:
            return None, ()
        return (trace.until_ms if trace.until_ms > self._clock() else None), tuple(trace.lines)

    def recorder(self, account_id: AccountId, protocol: str) -> Recorder:
        """Return the recorder of a new connection."""
        return Recorder(self, account_id, protocol, next(self._numbers))

    def is_on(self, account_id: AccountId) -> bool:
        return account_id in self._traces and self._traces[account_id].until_ms > self._clock()

    def add(self, account_id: AccountId, line: ProtocolLogLine) -> None:
        self._traces[account_id].lines.append(line)

    def now_ms(self) -> int:
        return self._clock()


@dataclass(slots=True)
class Recorder:
    """Records the lines of one connection in the log of its account."""

    traces: ProtocolLogs
    account_id: AccountId
    protocol: str
    connection: int
    masker: Masker = field(default_factory=Masker, repr=False)
    """Masks secrets, even if a server repeats them."""

    @property
    def is_on(self) -> bool:
        return self.traces.is_on(self.account_id)

    def record(self, direction: Direction, text: str) -> None:
        """Record a line that is safe to show, truncated and without unprintable characters."""
        text = self.masker.mask(text)
        printable = "".join([character if character.isprintable() else " " for character in text[:LINE_CHARS]])
        line = ProtocolLogLine(self.traces.now_ms(), self.protocol, self.connection, direction, printable)
        self.traces.add(self.account_id, line)
