"""NOTIFY (RFC 5465): the command that requests events of mailboxes, selected or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.wire.imap import encode as enc
from app.wire.imap.encode import Argument, Command, command


@dataclass(frozen=True, slots=True)
class EventGroup:
    """One group of NOTIFY SET (RFC 5465 §5).

    `mailboxes` is a filter word (`selected`, `selected-delayed`, `inboxes`, `personal`, `subscribed`) or names;
    `with_children` adds their whole subtrees. `new_items`, for the selected mailbox only, come with each MessageNew.
    """

    mailboxes: str | Sequence[str]
    events: Sequence[str] = ("MessageNew", "MessageExpunge", "FlagChange")
    new_items: Sequence[str] = ()
    with_children: bool = False


def notify(groups: Iterable[EventGroup], *, with_status: bool = False, is_utf8: bool = False) -> Command:
    """NOTIFY SET, or NOTIFY NONE without groups."""
    arguments = [_event_group(group, is_utf8) for group in groups]
    if not arguments:
        return command("NOTIFY", b"NONE")
    return command("NOTIFY", b"SET", *([b"STATUS"] if with_status else []), *arguments)


def _event_group(group: EventGroup, is_utf8: bool) -> list[Argument]:
    written: list[Argument]
    if isinstance(group.mailboxes, str):
        written = [enc.atom(group.mailboxes)]
    else:
        names = [enc.mailbox(name, is_utf8=is_utf8) for name in group.mailboxes]
        written = [b"subtree" if group.with_children else b"mailboxes", names]
    events: list[Argument] = []
    for event in group.events:
        events.append(enc.atom(event))
        if event == "MessageNew" and group.new_items:
            events.append([enc.atom(item) for item in group.new_items])
    return [*written, events or b"NONE"]
