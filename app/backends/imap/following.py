"""Reads the changes of one mailbox: flags and removals since a MODSEQ, else all current flags."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.backends.imap.connection import MAX_KEPT_BYTES, CommandCompletion, kept_bytes
from app.backends.imap.searching import uids_of
from app.backends.imap.selected import Selected
from app.backends.imap.session import ClientSession
from app.errors import ServerProtocolError
from app.mail.delta import UNTOLD, Known
from app.mail.flag_table import FlagTable
from app.mail.types import Flags
from app.wire.imap import commands
from app.wire.imap.commands import KnownState
from app.wire.imap.fetch import FetchedMessage, is_fetch, parse_fetch
from app.wire.imap.framing import Response
from app.wire.imap.responses import Vanished
from app.wire.imap.sets import MAX_NUMBER, SequenceSet

FLAGS_AT_ONCE = 500
OMITTED_LIMIT = 1_000
"""Largest number of messages, found by a search but omitted by FETCH, that are fetched again."""
_UNTOLD = Known(UNTOLD)
MAX_VANISHED = 250_000
"""Removals that are listed one by one; for more, the existing UIDs are requested."""


@dataclass(frozen=True, slots=True)
class SyncPoint:
    """The changes of a mailbox. `vanished` is None if the server cannot report removals."""

    selected: Selected
    flags: FlagTable
    vanished: frozenset[int] | None


async def all_flags(session: ClientSession, name: str) -> FlagTable:
    """UID → flags of every message; UNTOLD for messages that SEARCH repeatedly finds but FETCH does not return.

    A response that cannot be parsed affects only its own message.
    """
    uids = await uids_of(session, name)
    table = await flags_of(session, name, uids)
    if len(table) >= len(uids):
        return table
    omitted = [uid for uid in uids if uid not in table][-OMITTED_LIMIT:]
    named = await uids_of(session, name, SequenceSet.of(omitted))
    again = await flags_of(session, name, named)
    for uid in named:
        known = again.get(uid, _UNTOLD)
        table.put(uid, known.flags, known.modseq)
    return table


async def flags_of(session: ClientSession, name: str, uids: Sequence[int]) -> FlagTable:
    """UID → flags, and MODSEQ if the server keeps it, of those messages that exist."""
    items = ["UID", "FLAGS", *(["MODSEQ"] if session.keeps_modseq else [])]
    table = FlagTable()
    for start in range(0, len(uids), FLAGS_AT_ONCE):
        numbers = SequenceSet.of(uids[start : start + FLAGS_AT_ONCE])
        fill(table, await session.fetch(name, numbers, items, is_tolerant=True))
        await asyncio.sleep(0)
    return table


def fill(table: FlagTable, messages: Mapping[int, FetchedMessage]) -> FlagTable:
    """Add fetched flags to a table."""
    for uid, message in sorted(messages.items()):
        if message.flags is not None:
            table.put(uid, message.flags, message.modseq or 0)
    return table


class FlagReader:
    """Collects flags from FETCH responses as they arrive (`take`), without keeping the responses.

    Responses without flags are ignored; of two responses for a message the later one counts.
    """

    def __init__(self) -> None:
        self.flags = FlagTable()
        self._kept_bytes = 0
        self._error: ServerProtocolError | None = None

    def take(self, response: Response) -> bool:
        if not is_fetch(response):
            return False
        try:
            message = parse_fetch(response)
        except ServerProtocolError as error:
            self._error = error
            return True
        if message.flags is not None and message.uid is not None and 0 < message.uid <= MAX_NUMBER:
            self._put(message.uid, message.flags, message.modseq or 0, response)
        return True

    def _put(self, uid: int, flags: Flags, modseq: int, response: Response) -> None:
        kinds = self.flags.kinds
        self.flags.put(uid, flags, modseq)
        if self.flags.kinds > kinds:
            self._kept_bytes += kept_bytes(response)
            if self._kept_bytes > MAX_KEPT_BYTES:
                raise ServerProtocolError("The server reports more different flags than can be stored")

    def check(self) -> FlagTable:
        """The collected flags. Raises ServerProtocolError if a response could not be parsed."""
        if self._error is not None:
            raise self._error
        return self.flags


async def changes_since(session: ClientSession, name: str, known: KnownState) -> SyncPoint:
    """Changes by QRESYNC in one SELECT, by CONDSTORE with CHANGEDSINCE, else the flags of every message."""
    reader = FlagReader()
    if known.modseq and session.has("QRESYNC"):
        selected, completion = await session.select(name, known=known, take=reader.take)
        return SyncPoint(selected, reader.check(), await _vanished(session, completion))
    selected, _ = await session.select(name)
    if selected.uid_validity != known.uid_validity:
        return SyncPoint(selected, FlagTable(), None)
    if known.modseq and selected.highest_modseq:
        items = ("UID", "FLAGS", "MODSEQ")
        command = commands.fetch(SequenceSet.parse("1:*"), items, changed_since=known.modseq)
        await session.do(command, take=reader.take)
        return SyncPoint(selected, reader.check(), None)
    flags = await all_flags(session, name)
    if not selected.uid_next:  # SELECT may omit it (RFC 3501 §6.3.1), as Courier does
        selected.uid_next = max(flags, default=0) + 1
    return SyncPoint(selected, flags, None)


async def _vanished(session: ClientSession, completion: CommandCompletion) -> frozenset[int] | None:
    gone: set[int] = set()
    for response in await session.parsed_numbers(completion):
        if isinstance(response, Vanished):
            if len(gone) + len(response.uids) > MAX_VANISHED:
                return None
            gone.update(response.uids.numbers(MAX_VANISHED))
    return frozenset(gone)
