"""A change that the origin confirmed, and what came of it in the index."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.mail.delta import Arrived, Delta, Location
from app.mail.types import MailboxId, MessageId, Position


@dataclass(slots=True)
class Applied:
    """What came of a Delta: the account's last event number, and the ids of what it named by location."""

    seq: int = 0
    mailbox_ids: dict[str, MailboxId] = field(default_factory=dict)
    """By origin name: the mailboxes found."""
    message_ids: dict[Location, MessageId] = field(default_factory=dict)
    """Arrived, copied and moved messages by where they are now."""
    arrivals: list[tuple[Arrived, MessageId]] = field(default_factory=list)
    """The arrivals that became messages, each with its message's id."""
    copies: dict[Location, Location] = field(default_factory=dict)
    """Source → target of what was copied or moved."""
    modseqs: dict[Location, int] = field(default_factory=dict)
    """MODSEQ of the messages whose flags changed."""
    at_ms: int = 0
    """The time of that event."""
    seq_before: int = 0
    """The account's last event number before: the events of this change are those after it, up to `seq`."""
    delta: Delta = field(default_factory=Delta)
    """The facts that were written, as they were decided."""

    @property
    def position(self) -> Position:
        """Where the account's log ends then."""
        return Position(self.seq, self.at_ms)

    def __add__(self, later: Applied) -> Applied:
        """Both as one; `later` is of a later transaction."""
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
    """What a changing call of a MailBackend did.

    `written` is what came of it in the index, where the index is the origin and has it already. None for another mail
    server: the caller writes `delta` to the index.
    """

    delta: Delta
    written: Applied | None = None
