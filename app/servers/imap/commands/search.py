"""SEARCH and UID SEARCH, with the answers of ESEARCH and SEARCHRES (RFC 9051 §6.4.4, RFC 7162 §3.1.5).

The full-text index is asked first: it compares as a reader of the message would. Messages are read for what it does
not hold, and only where nothing else decides.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.errors import TooComplex
from app.mail.identifiers import now_ms
from app.mail.searchable import Searchable, fold
from app.mailstore.blobs import BlobMissing
from app.mailstore.texts import Looked
from app.mailstore.views import MessageValues, is_detailed
from app.mime.searchable import searchable_in_all
from app.servers.conversation import Outlet
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.handlers import Handler, Handlers, State, with_uids
from app.servers.imap.matching import Matcher, scope_of
from app.servers.imap.news import catch_up
from app.servers.imap.numbers import numbers_of, set_pieces
from app.servers.imap.rows import read_rows
from app.servers.imap.session import Session
from app.servers.imap.uids import holds
from app.servers.imap.view import MailboxView
from app.wire.imap.requests.search import Search
from app.wire.imap.search import And, HeaderMatch, Not, Numbers, Or, SavedResult, SearchKey, TextMatch

COMPARISONS_LIMIT = 1_000
"""Criteria compared with rows in the event loop; more are compared in a thread."""
CONTENTS_LIMIT_BYTES = 4 * 1024 * 1024
"""How much message text is held at a time, unless one message is larger."""
SEARCH_SECONDS = 60.0
READ_UNITS = 10
"""Work (see `Pace`) of reading a message."""
FEW = 10
"""So few messages are read sooner than a text is looked for in all."""
LOOKS_LIMIT = 10
"""Different texts of one search that the index is asked for; for more, messages are read."""


@dataclass(slots=True)
class Found:
    """UIDs of what matches, ascending, and MODSEQs: of the first, the last, and the highest (0 where nobody asked)."""

    uids: array[int] = field(default_factory=lambda: array("I"))
    first_modseq: int = 0
    last_modseq: int = 0
    highest_modseq: int = 0

    def add(self, uid: int, modseq: int) -> None:
        if not self.uids:
            self.first_modseq = modseq
        self.uids.append(uid)
        self.last_modseq = modseq
        self.highest_modseq = max(self.highest_modseq, modseq)


async def search(session: Session, command: Search, out: Outlet) -> Completion:
    """SEARCH. Refused with LIMIT when it takes too long.

    A message that another session removed can't be looked at any more: EXPUNGEISSUED says so (RFC 5530 §3).
    """
    view = session.selected
    uids = await candidates(session, command.key)
    try:
        async with asyncio.timeout(SEARCH_SECONDS):
            looked = await _look(session, command.key) if len(uids) > FEW else {}
            matcher = await asyncio.to_thread(Matcher, command.key, view, now_ms(), looked)
            if matcher.has_modseq:
                await session.enable_condstore(out)
            uids = await asyncio.to_thread(_narrowed, view, command.key, uids, looked) if looked else uids
            found, is_whole = await _find(session, matcher, uids)
    except TimeoutError:
        raise CommandRefused("LIMIT", "The search takes too long; narrow it") from None
    if command.returning is None:
        await _tell_plainly(session, command, found, out)
    else:
        await _tell_extended(session, command, found, out)
    return Completion("SEARCH completed") if is_whole else Completion("Some messages are gone", "EXPUNGEISSUED")


async def candidates(session: Session, key: SearchKey) -> Sequence[int]:
    """The UIDs to look at: those that the criteria name, where they name some, else all."""
    for one in key.keys if isinstance(key, And) else (key,):
        if isinstance(one, Numbers):
            return await session.named(one.numbers, is_uid=one.is_uid, is_search=True)
        if isinstance(one, SavedResult):
            return await session.named(one, is_uid=one.is_uid)
    return session.selected.uids()


async def _look(session: Session, key: SearchKey) -> Mapping[SearchKey, Looked]:
    """Ask the full-text index for the texts in these criteria."""
    looked: dict[SearchKey, Looked] = {}
    for one in _texts_in(key):
        scope = scope_of(one)
        if scope is not None and one not in looked and len(looked) < LOOKS_LIMIT:
            account_id, mailbox_id = session.account, session.selected.mailbox_id
            looked[one] = await session.services.texts.look(account_id, mailbox_id, scope, fold(one.text))
    if looked:
        await catch_up(session)  # what went before the index was asked, which does not know it any more
    return looked


def _texts_in(key: SearchKey) -> Iterator[TextMatch | HeaderMatch]:
    match key:
        case And(keys):
            for one in keys:
                yield from _texts_in(one)
        case Or(left, right):
            yield from _texts_in(left)
            yield from _texts_in(right)
        case Not(inner):
            yield from _texts_in(inner)
        case TextMatch() | HeaderMatch():
            yield key


def _narrowed(
    view: MailboxView, key: SearchKey, uids: Sequence[int], looked: Mapping[SearchKey, Looked]
) -> Sequence[int]:
    """Without the messages that lack a text which all must have; those that are gone stay, to be told of."""
    for one in key.keys if isinstance(key, And) else (key,):
        told = looked.get(one)
        if told is not None:
            found, unindexed = told.found, told.unindexed
            uids = [uid for uid in uids if holds(found, uid) or holds(unindexed, uid) or view.is_gone(uid)]
    return uids


async def _find(session: Session, matcher: Matcher, uids: Sequence[int]) -> tuple[Found, bool]:
    """What matches, and whether every message was there to be looked at."""
    found = Found()
    looked_at = 0
    async for rows in read_rows(session, uids, matcher.columns):
        looked_at += len(rows)
        told = await _told(matcher, rows)
        unread = [row for row, is_met in zip(rows, told, strict=True) if is_met is None]
        read = await _meeting_by_text(session, matcher, unread) if unread else set()
        for row, is_met in zip(rows, told, strict=True):
            if is_met or row.uid in read:
                found.add(row.uid, row.modseq if matcher.has_modseq else 0)
        await session.pace.spend(len(rows) // 5)
    return found, looked_at == len(uids)


async def _told(matcher: Matcher, rows: Sequence[MessageValues]) -> list[bool | None]:
    """Whether each row meets the criteria; None where its message must be read. Much is compared in a thread."""

    def compare() -> list[bool | None]:
        return [matcher.meets(row, None) for row in rows]

    is_long = is_detailed(matcher.columns) or len(rows) * matcher.criteria > COMPARISONS_LIMIT
    return await asyncio.to_thread(compare) if is_long else compare()


async def _meeting_by_text(session: Session, matcher: Matcher, rows: Sequence[MessageValues]) -> set[int]:
    """UIDs of the messages that meet the criteria by their text, read a few megabytes at a time."""
    meeting: set[int] = set()
    held: list[tuple[MessageValues, bytes]] = []
    held_bytes = 0
    for row in rows:
        held.append((row, await _read(session, row.blob)))
        held_bytes += row.size_bytes
        await session.pace.spend(READ_UNITS)
        if held_bytes >= CONTENTS_LIMIT_BYTES:
            meeting |= await _meeting(session, matcher, held)
            held, held_bytes = [], 0
    return meeting | await _meeting(session, matcher, held)


async def _meeting(session: Session, matcher: Matcher, held: Sequence[tuple[MessageValues, bytes]]) -> set[int]:
    rows = {row.uid: row for row, _ in held}
    texts = await _texts(session, {row.uid: content for row, content in held})
    return await asyncio.to_thread(lambda: {uid for uid, text in texts.items() if matcher.meets(rows[uid], text)})


async def _texts(session: Session, contents: Mapping[int, bytes]) -> Mapping[int, Searchable]:
    """Texts by UID. A message that is too complex to be read is not found."""
    size_bytes = sum(map(len, contents.values()))
    try:
        return await session.services.store.parsers.run(session.account, size_bytes, searchable_in_all, contents)
    except TooComplex:
        if len(contents) == 1:
            return {}
    texts: dict[int, Searchable] = {}
    for uid, content in contents.items():
        texts |= await _texts(session, {uid: content})
    return texts


async def _read(session: Session, blob: str) -> bytes:
    """A message's bytes; none where they are damaged, which a search passes over."""
    try:
        return await session.services.store.blobs.get(blob)
    except BlobMissing:
        return b""


async def _tell_plainly(session: Session, command: Search, found: Found, out: Outlet) -> None:
    """Send SEARCH: a number for each message, in pieces."""
    await out.send(b"* SEARCH")
    async for numbers in numbers_of(session, found.uids, is_uid=command.is_uid):
        await out.send(b"".join([b" %d" % number for number in numbers]))
    await out.send(b" (MODSEQ %d)\r\n" % found.highest_modseq if found.highest_modseq else b"\r\n")


async def _tell_extended(session: Session, command: Search, found: Found, out: Outlet) -> None:
    """Send ESEARCH (RFC 4731 §3.1); RETURN () means ALL. With SAVE alone it sends nothing."""
    returning = command.returning or frozenset({"ALL"})
    if "SAVE" in returning:
        session.selected.saved = _saved(returning, found.uids)
        if returning == {"SAVE"}:
            return
    ends = session.selected
    words = [f' (TAG "{session.tag}")', *([" UID"] if command.is_uid else [])]
    for name, uid in {"MIN": found.uids[:1], "MAX": found.uids[-1:]}.items():
        if uid and name in returning:
            words.append(f" {name} {uid[0] if command.is_uid else ends.number_of(uid[0])}")
    await out.send(f"* ESEARCH{''.join(words)}".encode())
    if found.uids and "ALL" in returning:
        await out.send(b" ALL ")
        async for piece in set_pieces(session, found.uids, is_uid=command.is_uid):
            await out.send(piece)
    count = b" COUNT %d" % len(found.uids) if "COUNT" in returning else b""
    modseq = b" MODSEQ %d" % _told_modseq(returning, found) if found.highest_modseq else b""
    await out.send(count + modseq + b"\r\n")


def _saved(returning: frozenset[str], uids: array[int]) -> array[int]:
    """What `$` stands for: with MIN or MAX, and neither ALL nor COUNT, only those (RFC 5182 §2.4)."""
    if returning & {"ALL", "COUNT"} or not returning & {"MIN", "MAX"}:
        return uids
    ends = {*(uids[:1] if "MIN" in returning else ()), *(uids[-1:] if "MAX" in returning else ())}
    return array("I", sorted(ends))


def _told_modseq(returning: frozenset[str], found: Found) -> int:
    """The highest MODSEQ of the messages that are told (RFC 4731 §3.2)."""
    if returning & {"ALL", "COUNT"}:
        return found.highest_modseq
    return max(found.first_modseq if "MIN" in returning else 0, found.last_modseq if "MAX" in returning else 0)


HANDLERS: Handlers = (
    Handler(Search, search, State.SELECTED, capabilities=("ESEARCH", "SEARCHRES", "WITHIN"), may_expunge=with_uids),
)
