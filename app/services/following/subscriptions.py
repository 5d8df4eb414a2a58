"""What one subscriber of the stream wants to receive, and its positions. Pure except for reading positions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from app.mail.event_log import Event
from app.mail.events import EVENTS, Audience
from app.mail.types import AccountId, Position
from app.services.access.visibility import mailboxes_of

COUNTS = "counts"
"""The name of `counts` frames among the types of a subscription."""
_OF_SEVERAL = (Audience.MOVE, Audience.SEVERAL)
"""Events of a message that may be in several mailboxes."""


@dataclass(slots=True)
class Subscription:
    """One `subscribe` of a stream.

    `mailbox_ids` and `types` None mean all; a type may end in ".*". `roles` are resolved to mailboxes by the stream,
    which keeps `role_mailbox_ids` current. `positions` maps each account to the position of the last event that this
    subscription received or that did not match it.
    """

    id: str
    is_every_account: bool
    positions: dict[AccountId, Position]
    mailbox_ids: frozenset[str] | None = None
    roles: frozenset[str] = frozenset()
    types: frozenset[str] | None = None
    view: str = "summary"
    consumer: str | None = None
    role_mailbox_ids: set[str] = field(default_factory=set)

    def wants(self, event: Event) -> bool:
        """Whether an event that the caller may see matches this subscription."""
        return self._wants_type(event.type) and self._wants_mailbox(event)

    @property
    def wants_counts(self) -> bool:
        """Whether this subscription includes `counts` frames: if types are named, `counts` must be one of them."""
        return self.types is None or COUNTS in self.types

    def mailboxes(self) -> frozenset[str] | None:
        """The mailboxes of the subscription; None: all."""
        if self.mailbox_ids is None and not self.roles:
            return None
        return (self.mailbox_ids or frozenset()) | self.role_mailbox_ids

    def _wants_type(self, type_: str) -> bool:
        if self.types is None or type_ in self.types:
            return True
        return f"{type_.partition('.')[0]}.*" in self.types

    def _wants_mailbox(self, event: Event) -> bool:
        mailboxes = self.mailboxes()
        return event.mailbox_id is None or mailboxes is None or _touches(event, mailboxes)


def _touches(event: Event, mailbox_ids: Collection[str]) -> bool:
    if event.mailbox_id in mailbox_ids or event.target_mailbox_id in mailbox_ids:
        return True
    kind = EVENTS.get(event.type)
    is_of_several = kind is not None and kind.audience in _OF_SEVERAL
    return is_of_several and not mailboxes_of(event).isdisjoint(mailbox_ids)
