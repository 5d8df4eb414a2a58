"""NOTIFY (RFC 5465)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, Readers
from app.wire.imap.requests.fetch import FetchItem, read_item

MESSAGE_EVENTS = ("MessageNew", "MessageExpunge", "FlagChange", "AnnotationChange")
MAILBOX_EVENTS = ("MailboxName", "SubscriptionChange", "MailboxMetadataChange", "ServerMetadataChange")
MAX_GROUPS = 100

_SPELLINGS = {event.upper(): event for event in (*MESSAGE_EVENTS, *MAILBOX_EVENTS)}
_FILTERS = frozenset({"SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED"})
_NAMING_FILTERS = frozenset({"SUBTREE", "MAILBOXES"})


@dataclass(frozen=True, slots=True)
class WatchedGroup:
    """A group of NOTIFY SET (RFC 5465 §5).

    `filter` is SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES; the last two name
    `mailboxes`. `events` have the RFC's spelling if the RFC defines them, and are empty for NONE. `new_items` are the
    FETCH items to send with MessageNew.
    """

    filter: str
    mailboxes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    new_items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify(Command):
    """NOTIFY (RFC 5465). NOTIFY NONE has no groups. `with_status` requests the STATUS of each mailbox at once."""

    groups: tuple[WatchedGroup, ...] = ()
    with_status: bool = False


def _notify(reader: ArgumentReader) -> Notify:
    """Parse NOTIFY SET or NONE. Raises CommandSyntaxError.

    Unknown events are kept: the server answers them with BADEVENT (RFC 5465 §8), not with a syntax error.
    """
    if reader.skip_word("NONE"):
        return Notify()
    if not reader.skip_word("SET"):
        reader.fail("SET or NONE expected")
    with_status = False
    groups: list[WatchedGroup] = []
    while reader.skip(b" "):
        if not groups and reader.skip_word("STATUS"):
            with_status = True
        else:
            groups.append(_group(reader))
    if not 0 < len(groups) <= MAX_GROUPS:
        reader.fail("NOTIFY SET takes from 1 to 100 groups")
    return Notify(tuple(groups), with_status)


def _group(reader: ArgumentReader) -> WatchedGroup:
    reader.expect(b"(")
    filter_ = reader.word()
    mailboxes: tuple[str, ...] = ()
    if filter_ in _NAMING_FILTERS:
        reader.space()
        mailboxes = tuple(reader.items(reader.mailbox)) if reader.next_is(b"(") else (reader.mailbox(),)
    elif filter_ not in _FILTERS:
        reader.fail("Unknown mailbox filter")
    reader.space()
    events, new_items = _events(reader)
    reader.expect(b")")
    return WatchedGroup(filter_, mailboxes, events, new_items)


def _events(reader: ArgumentReader) -> tuple[tuple[str, ...], tuple[FetchItem, ...]]:
    """The events of a group, and the FETCH items to send with MessageNew."""
    if reader.skip_word("NONE"):
        return (), ()
    new_items: list[FetchItem] = []

    def read_event() -> str:
        word = reader.word()
        if word == "MESSAGENEW" and reader.skip(b" ("):
            new_items.append(read_item(reader))
            while reader.skip(b" "):
                new_items.append(read_item(reader))
            reader.expect(b")")
        return _SPELLINGS.get(word, word)

    events = tuple(dict.fromkeys(reader.items(read_event)))
    return events, tuple(dict.fromkeys(new_items))


READERS: Readers = {"NOTIFY": _notify}
