"""Entries of an account's event log, as readers get them."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.mail.types import AccountId, Position


@dataclass(frozen=True, slots=True)
class Event:
    """One entry. `body` is the CloudEvents object in JSON. `uid` is in `mailbox_id`, `target_uid` in the target."""

    account_id: AccountId
    seq: int
    type: str
    subject: str
    mailbox_id: str | None
    uid: int | None
    target_mailbox_id: str | None
    target_uid: int | None
    at_ms: int
    body: bytes
    frames: dict[object, bytes] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Encodings of the event for its readers, each made once."""

    @property
    def position(self) -> Position:
        return Position(self.seq, self.at_ms)


@dataclass(frozen=True, slots=True)
class Span:
    """The stored part of a log: the events after `first` (the last trimmed one) up to `last`."""

    first: Position
    last: Position


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in order, and the stored part of the log when they were read."""

    span: Span
    events: list[Event]

    @property
    def is_last(self) -> bool:
        """Whether these were the last events of the log."""
        return not self.events or self.events[-1].seq >= self.span.last.seq
