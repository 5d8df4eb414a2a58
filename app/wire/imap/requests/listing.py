"""LIST, LSUB and STATUS (RFC 9051 §6.3.9, §6.3.11; RFC 5258, RFC 5819)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, Readers

SELECT_OPTIONS = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
RETURN_OPTIONS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE"})
STATUS_ITEMS = frozenset(
    {"MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "RECENT", "HIGHESTMODSEQ", "MAILBOXID"}
    | {"APPENDLIMIT"}
)
MAX_PATTERNS = 100


@dataclass(frozen=True, slots=True)
class ListMailboxes(Command):
    """LIST, LIST-EXTENDED (RFC 5258) or LSUB. Options are in upper case; `status` has the items of LIST-STATUS.

    `is_extended`: the client used the extended syntax, and so understands extended responses.
    """

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[str] = frozenset()
    returning: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    is_lsub: bool = False
    is_extended: bool = False


@dataclass(frozen=True, slots=True)
class MailboxStatusOf(Command):
    """STATUS. Items are in upper case."""

    mailbox: str
    items: tuple[str, ...]


def _list(reader: ArgumentReader) -> ListMailboxes:
    """Parse LIST in its plain or its extended form. Raises CommandSyntaxError."""
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


def _option(reader: ArgumentReader, allowed: frozenset[str]) -> str:
    option = reader.word()
    if option not in allowed:
        reader.fail("Unknown option")
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


def _lsub(reader: ArgumentReader) -> ListMailboxes:
    """Parse LSUB (RFC 3501 §6.3.9). Raises CommandSyntaxError."""
    reference = reader.mailbox_pattern()
    reader.space()
    return ListMailboxes(reference, (reader.mailbox_pattern(),), is_lsub=True)


def _status(reader: ArgumentReader) -> MailboxStatusOf:
    """Parse STATUS. Raises CommandSyntaxError."""
    mailbox = reader.mailbox()
    reader.space()
    return MailboxStatusOf(mailbox, _status_items(reader))


def _status_items(reader: ArgumentReader) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reader.items(lambda: _option(reader, STATUS_ITEMS))))


READERS: Readers = {"LIST": _list, "LSUB": _lsub, "STATUS": _status}
