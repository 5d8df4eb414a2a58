"""LIST, LSUB, STATUS and NOTIFY as the server reads them (RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 5465)."""

from __future__ import annotations

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.fetch_request import read_item
from app.wire.imap.requests import FetchItem, ListMailboxes, MailboxStatusOf, Notify, WatchedGroup

SELECT_OPTIONS = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
RETURN_OPTIONS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE"})
STATUS_ITEMS = frozenset(
    {"MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "RECENT", "HIGHESTMODSEQ", "MAILBOXID"}
    | {"APPENDLIMIT"}
)
MESSAGE_EVENTS = ("MessageNew", "MessageExpunge", "FlagChange", "AnnotationChange")
MAILBOX_EVENTS = ("MailboxName", "SubscriptionChange", "MailboxMetadataChange", "ServerMetadataChange")
MAX_PATTERNS = 100
MAX_GROUPS = 100

_SPELLINGS = {event.upper(): event for event in (*MESSAGE_EVENTS, *MAILBOX_EVENTS)}
_FILTERS = frozenset({"SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED"})
_NAMING_FILTERS = frozenset({"SUBTREE", "MAILBOXES"})


def read_list(reader: ArgumentReader) -> ListMailboxes:
    """LIST in its plain or its extended form. Raises CommandSyntaxError."""
    select: frozenset[str] = frozenset()
    is_extended = reader.next_is(b"(")
    if is_extended:
        select = frozenset(reader.items_or_empty(lambda: _option(reader, SELECT_OPTIONS)))
        reader.space()
    if "RECURSIVEMATCH" in select and not select - {"RECURSIVEMATCH", "REMOTE"}:
        reader.fail("RECURSIVEMATCH needs another option")
    reference = reader.mailbox_pattern()
    reader.space()
    is_extended = is_extended or reader.next_is(b"(")
    patterns = _patterns(reader)
    returning: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    if reader.skip(b" "):
        is_extended = True
        returning, status = _returning(reader)
    return ListMailboxes(reference, patterns, select, returning, status, is_extended=is_extended)


def _patterns(reader: ArgumentReader) -> tuple[str, ...]:
    if not reader.next_is(b"("):
        return (reader.mailbox_pattern(),)
    patterns = tuple(reader.items(reader.mailbox_pattern))
    if len(patterns) > MAX_PATTERNS:
        reader.fail("Too many patterns")
    return patterns


def _option(reader: ArgumentReader, known: frozenset[str]) -> str:
    option = reader.word()
    if option not in known:
        reader.fail("An unknown option")
    return option


def _returning(reader: ArgumentReader) -> tuple[frozenset[str], tuple[str, ...]]:
    if reader.word() != "RETURN":
        reader.fail("RETURN expected")
    reader.space()
    status: list[str] = []

    def read_option() -> str:
        if not reader.skip_word("STATUS"):
            return _option(reader, RETURN_OPTIONS)
        reader.space()
        status.extend(_status_items(reader))
        return "STATUS"

    options = frozenset(reader.items_or_empty(read_option))
    return options - {"STATUS"}, tuple(dict.fromkeys(status))


def read_lsub(reader: ArgumentReader) -> ListMailboxes:
    """LSUB (RFC 3501 §6.3.9). Raises CommandSyntaxError."""
    reference = reader.mailbox_pattern()
    reader.space()
    return ListMailboxes(reference, (reader.mailbox_pattern(),), is_lsub=True)


def read_status(reader: ArgumentReader) -> MailboxStatusOf:
    """STATUS. Raises CommandSyntaxError."""
    mailbox = reader.mailbox()
    reader.space()
    return MailboxStatusOf(mailbox, _status_items(reader))


def _status_items(reader: ArgumentReader) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reader.items(lambda: _option(reader, STATUS_ITEMS))))


def read_notify(reader: ArgumentReader) -> Notify:
    """NOTIFY SET or NONE. Raises CommandSyntaxError.

    An event that nobody knows is kept: it is to be answered with BADEVENT (RFC 5465 §8), which is no syntax error.
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
        reader.fail("An unknown filter of mailboxes")
    reader.space()
    events, new_items = _events(reader)
    reader.expect(b")")
    return WatchedGroup(filter_, mailboxes, events, new_items)


def _events(reader: ArgumentReader) -> tuple[tuple[str, ...], tuple[FetchItem, ...]]:
    """Events and what MessageNew is to be told with."""
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
