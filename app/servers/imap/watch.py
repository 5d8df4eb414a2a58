"""The NOTIFY request of a client (RFC 5465), and pending responses for mailboxes that it has not selected. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from app.mail.types import Mailbox
from app.mailstore.views import LoggedChange
from app.wire.imap.requests.fetch import FetchItem
from app.wire.imap.requests.notify import WatchedGroup

_ON_SELECTED = frozenset({"SELECTED", "SELECTED-DELAYED"})
_MESSAGE_TYPES = {
    "message.created": "MessageNew",
    "message.moved": "MessageNew",
    "message.deleted": "MessageExpunge",
    "message.updated": "FlagChange",
}


@dataclass(slots=True)
class MailboxWatch:
    """The groups of the active NOTIFY SET, and the pending responses.

    `counts` and `names` have the ids of mailboxes whose STATUS or LIST is pending. `known` has the mailboxes that the
    client knows, by id, to name renamed or deleted mailboxes.
    """

    groups: tuple[WatchedGroup, ...]
    known: dict[str, Mailbox] = field(default_factory=dict)
    counts: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)

    @property
    def _selected(self) -> WatchedGroup | None:
        return next((group for group in self.groups if group.filter in _ON_SELECTED), None)

    @property
    def is_pushed(self) -> bool:
        """Whether any response is sent without a command."""
        return any(group.events for group in self.groups)

    @property
    def pushes_selected(self) -> bool:
        """Whether changes of the selected mailbox are sent without a command."""
        group = self._selected
        return group is not None and bool(group.events)

    @property
    def may_expunge(self) -> bool:
        """Whether EXPUNGE may be sent between commands: SELECTED, but not SELECTED-DELAYED."""
        group = self._selected
        return group is not None and group.filter == "SELECTED" and "MessageExpunge" in group.events

    @property
    def new_items(self) -> tuple[FetchItem, ...]:
        """Return the items to send for a new message in the selected mailbox, in addition to its number."""
        group = self._selected
        return group.new_items if group is not None and "MessageNew" in group.events else ()

    def note(self, change: LoggedChange, selected_id: str | None) -> None:
        """Note the responses that an entry of the log causes."""
        if change.type.startswith("mailbox."):
            self.names[change.subject] = None
        event = _MESSAGE_TYPES.get(change.type)
        if event is None:
            return
        for mailbox_id in (change.mailbox_id, change.target_mailbox_id):
            if mailbox_id is not None and mailbox_id != selected_id and self.events_of(self.known.get(mailbox_id)):
                self.counts[mailbox_id] = None

    def events_of(self, mailbox: Mailbox | None) -> tuple[str, ...]:
        """Return the requested events of a mailbox that is not selected: the events of its first group."""
        if mailbox is None:
            return ()
        for group in self.groups:
            if group.filter not in _ON_SELECTED and is_in_group(mailbox, group):
                return group.events
        return ()

    def set_known(self, mailboxes: Iterable[Mailbox]) -> None:
        self.known = {mailbox.id: mailbox for mailbox in mailboxes}


def is_in_group(mailbox: Mailbox, group: WatchedGroup) -> bool:
    """Whether a mailbox matches a group's filter (RFC 5465 §6)."""
    match group.filter:
        case "INBOXES":
            return mailbox.path == "INBOX"
        case "SUBSCRIBED":
            return mailbox.is_subscribed
        case "PERSONAL":
            return True
        case "SUBTREE":
            return any(mailbox.path == root or mailbox.path.startswith(f"{root}/") for root in group.mailboxes)
        case _:
            return mailbox.path in group.mailboxes
