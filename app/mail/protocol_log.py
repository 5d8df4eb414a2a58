"""What the connections of an account said and heard: the last lines, kept in memory while someone asked for it.

Never a secret and never a message: what is recorded has been made safe by its protocol before (`app.backends.tracing`).
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
"""Kept of an account; older ones are dropped."""
LINE_CHARS = 400
MAX_ACCOUNTS = 200
"""Recorded at a time; the one that was asked for first ends when there is another."""


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
class ProtocolLog:
    until_ms: int
    lines: deque[ProtocolLogLine] = field(default_factory=lambda: deque(maxlen=LINES))


class ProtocolLogs:
    """The traces of this process. Nothing is recorded of an account but for the time that was asked for."""

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._traces: OrderedDict[AccountId, ProtocolLog] = OrderedDict()
        self._numbers = itertools.count(1)

    def start(self, account_id: AccountId, seconds: int) -> ProtocolLog:
        """Record for so long from now on; what was recorded before stays."""
        trace = self._traces.setdefault(account_id, ProtocolLog(0))
        trace.until_ms = self._clock() + seconds * 1000
        if len(self._traces) > MAX_ACCOUNTS:
            self._traces.popitem(last=False)
        return trace

    def stop(self, account_id: AccountId) -> None:
        """Record no more, and forget."""
        self._traces.pop(account_id, None)

    def of(self, account_id: AccountId) -> tuple[int | None, Sequence[ProtocolLogLine]]:
        """Until when is recorded, None where nothing is, and the lines so far, oldest first."""
        trace = self._traces.get(account_id)
        if trace is None:
            return None, ()
        return (trace.until_ms if trace.until_ms > self._clock() else None), tuple(trace.lines)

    def recorder(self, account_id: AccountId, protocol: str) -> Recorder:
        """What a new connection tells its lines to."""
        return Recorder(self, account_id, protocol, next(self._numbers))

    def is_on(self, account_id: AccountId) -> bool:
        return account_id in self._traces and self._traces[account_id].until_ms > self._clock()

    def add(self, account_id: AccountId, line: ProtocolLogLine) -> None:
        self._traces[account_id].lines.append(line)

    def now_ms(self) -> int:
        return self._clock()


@dataclass(slots=True)
class Recorder:
    """One connection's way into the trace of its account."""

    traces: ProtocolLogs
    account_id: AccountId
    protocol: str
    connection: int
    masker: Masker = field(default_factory=Masker, repr=False)
    """Of what never appears, though a server repeats it."""

    @property
    def is_on(self) -> bool:
        return self.traces.is_on(self.account_id)

    def record(self, direction: Direction, text: str) -> None:
        """Keep a line that is safe to show, in so far as it is printable and not too long."""
        text = self.masker.mask(text)
        shown = "".join([character if character.isprintable() else " " for character in text[:LINE_CHARS]])
        line = ProtocolLogLine(self.traces.now_ms(), self.protocol, self.connection, direction, shown)
        self.traces.add(self.account_id, line)
