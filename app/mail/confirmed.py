"""A change that the mail server confirmed, and its result in the index."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.mail.delta import Arrived, Delta, Location
from app.mail.types import MailboxId, MessageId, Position


@dataclass(slots=True)
class Applied:
    """The result of applying a Delta: the account's last event number, and the ids of what it named by location."""

    seq: int = 0
    mailbox_ids: dict[str, MailboxId] = field(default_factory=dict)
    """Origin name → id of the mailboxes found."""
    message_ids: dict[Location, MessageId] = field(default_factory=dict)
    """Current location → id of arrived, copied and moved messages."""
    arrivals: list[tuple[Arrived, MessageId]] = field(default_factory=list)
    """The arrivals that became messages, each with its message's id."""
    copies: dict[Location, Location] = field(default_factory=dict)
    """Source → target of copied and moved messages."""
    modseqs: dict[Location, int] = field(default_factory=dict)
    """MODSEQ of the messages whose flags changed."""
    at_ms: int = 0
    """The time of event `seq`."""
    seq_before: int = 0
    """The account's last event number before the change: its events are those after this number, up to `seq`."""
    delta: Delta = field(default_factory=Delta)
    """The facts that were written."""

    @property
    def position(self) -> Position:
        """The end of the account's log after this change."""
        return Position(self.seq, self.at_ms)

    def __add__(self, later: Applied) -> Applied:
        """Combine two results; `later` is from a later transaction."""
        return Applied(
            seq=later.seq,
            mailbox_ids=self.mailbox_ids | later.mailbox_ids,
            message_ids=self.message_ids | later.message_ids,
            arrivals=self.arrivals + later.arrivals,
            copies=self.copies | later.copies,
            modseqs=self.modseqs | later.modseqs,
            at_ms=later.at_ms,
            seq_before=self.seq_before,
            delta=self.delta + later.delta,
        )


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The result of a MailBackend call that changes mail.

    `written` is the result in the index for an embedded account, whose index is already updated. It is None for other
    mail servers: the caller writes `delta` to the index.
    """

    delta: Delta
    written: Applied | None = None
