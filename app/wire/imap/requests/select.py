"""SELECT, EXAMINE, CLOSE and UNSELECT (RFC 9051 §6.3.2, §6.3.3, §6.4.1, §6.4.2; RFC 7162)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.commands import KnownState
from app.wire.imap.request import BareCommand, Command, Readers
from app.wire.imap.sets import SequenceSet


@dataclass(frozen=True, slots=True)
class Resync:
    """SELECT (QRESYNC …) (RFC 7162 §3.2.5). `matched` pairs sequence numbers with UIDs from the client's cache."""

    known: KnownState
    matched: tuple[SequenceSet, SequenceSet] | None = None


@dataclass(frozen=True, slots=True)
class Select(Command):
    """SELECT or EXAMINE. A `resync` implies CONDSTORE."""

    mailbox: str
    is_read_only: bool = False
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class CloseMailbox(BareCommand):
    """CLOSE."""


@dataclass(frozen=True, slots=True)
class Unselect(BareCommand):
    """UNSELECT."""


def _select(reader: ArgumentReader, *, is_read_only: bool = False) -> Select:
    mailbox = reader.mailbox()
    condstore, resync = False, None
    if reader.skip(b" "):
        for parameter in reader.items(lambda: _select_parameter(reader)):
            condstore = True
            resync = parameter or resync
    return Select(mailbox, is_read_only, condstore, resync)


def _select_parameter(reader: ArgumentReader) -> Resync | None:
    """The argument of QRESYNC; None for CONDSTORE, which QRESYNC implies."""
    name = reader.word()
    if name == "QRESYNC":
        reader.space()
        return _resync(reader)
    if name != "CONDSTORE":
        reader.fail("Unknown parameter")
    return None


def _resync(reader: ArgumentReader) -> Resync:
    reader.expect(b"(")
    validity = reader.number()
    reader.space()
    modseq = reader.number()
    known, matched = None, None
    if reader.skip(b" "):
        if not reader.next_is(b"("):
            known = _known_set(reader)
        if known is None or reader.skip(b" "):
            reader.expect(b"(")
            sequences = _known_set(reader)
            reader.space()
            matched = (sequences, _known_set(reader))
            reader.expect(b")")
    reader.expect(b")")
    return Resync(KnownState(validity, modseq, known), matched)


def _known_set(reader: ArgumentReader) -> SequenceSet:
    """A set without `*`, because the client cannot know the current value of `*` (RFC 7162 §7)."""
    known = reader.sequence_set()
    if known.from_last:
        reader.fail("* is not allowed in a set of known UIDs")
    return known


READERS: Readers = {
    "SELECT": _select,
    "EXAMINE": partial(_select, is_read_only=True),
    "CLOSE": CloseMailbox(),
    "UNSELECT": Unselect(),
}
