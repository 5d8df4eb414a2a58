"""Finding messages by search criteria, for SEARCH, SORT and THREAD (RFC 9051 §6.4.4).

The full-text index is asked first: it compares as a reader of the message would. Messages are read for what it does
not hold, and only where nothing else decides.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.errors import TooComplex, Unavailable
from app.mail.identifiers import now_ms
from app.mail.searchable import Searchable, fold
from app.mailstore.blobs import BlobMissing
from app.mailstore.texts import TextMatches
from app.mailstore.views import MessageValues, is_detailed
from app.mime.searchable import searchable_in_all
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.matching import Matcher, scope_of
from app.servers.imap.news import catch_up
from app.servers.imap.rows import read_rows
from app.servers.imap.session import Session
from app.servers.imap.uids import holds
from app.servers.imap.view import MailboxView
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
    """The UIDs of the messages that match, ascending.

    `modseqs` are theirs where a criterion asked for MODSEQ, else empty. `is_whole` is False where some messages were
    gone before they could be looked at.
    """

    uids: array[int] = field(default_factory=lambda: array("I"))
    modseqs: array[int] = field(default_factory=lambda: array("Q"))
    is_whole: bool = True

    def highest_modseq(self, uids: Iterable[int] | None = None) -> int:
        """The highest MODSEQ of these messages, None for all of them; 0 where no criterion asked for MODSEQ."""
        if uids is None or not self.modseqs:
            return max(self.modseqs, default=0)
        return max(self.modseqs[bisect_left(self.uids, uid)] for uid in uids)

    def completion(self, name: str) -> Completion:
        """The tagged answer: EXPUNGEISSUED where messages were gone (RFC 5530 §3)."""
        if self.is_whole:
            return Completion(f"{name} completed")
        return Completion("Some messages were expunged", "EXPUNGEISSUED")


@asynccontextmanager
async def search_time(session: Session, returning: Collection[str] | None = None) -> AsyncIterator[None]:
    """Bounds the time of a search. Raises CommandRefused with LIMIT when it is over.

    A search that was to be saved and fails leaves `$` empty (RFC 5182 §2.1).
    """
    try:
        async with asyncio.timeout(SEARCH_SECONDS):
            yield
    except (TimeoutError, Unavailable) as error:
        if "SAVE" in (returning or ()):
            session.selected.saved = ()
        if isinstance(error, Unavailable):
            raise
        raise CommandRefused("LIMIT", "The search takes too long; use a narrower search") from None


async def find(session: Session, key: SearchKey, out: ReplyWriter) -> Found:
    """The messages of the selected mailbox that meet the criteria. MODSEQ among these enables CONDSTORE."""
    view = session.selected
    uids = await _candidates(session, key)
    looked = await _look(session, key) if len(uids) > FEW else {}
    matcher = await asyncio.to_thread(Matcher, key, view, now_ms(), looked)
    if matcher.has_modseq:
        await session.enable_condstore(out)
    uids = await asyncio.to_thread(_narrowed, view, key, uids, looked) if looked else uids
    return await _find(session, matcher, uids)


async def _candidates(session: Session, key: SearchKey) -> Sequence[int]:
    """The UIDs to look at: those that the criteria name, where they name some, else all."""
    for item in key.keys if isinstance(key, And) else (key,):
        if isinstance(item, Numbers):
            return await session.named(item.numbers, is_uid=item.is_uid, is_search=True)
        if isinstance(item, SavedResult):
            return await session.named(item, is_uid=item.is_uid)
    return session.selected.uids()


async def _look(session: Session, key: SearchKey) -> Mapping[SearchKey, TextMatches]:
    """Ask the full-text index for the texts in these criteria."""
    looked: dict[SearchKey, TextMatches] = {}
    for item in _texts_in(key):
        scope = scope_of(item)
        if scope is not None and item not in looked and len(looked) < LOOKS_LIMIT:
            account_id, mailbox_id = session.account, session.selected.mailbox_id
            looked[item] = await session.services.texts.look(account_id, mailbox_id, scope, fold(item.text))
    if looked:
        await catch_up(session)  # what went before the index was asked, which does not know it any more
    return looked


def _texts_in(key: SearchKey) -> Iterator[TextMatch | HeaderMatch]:
    match key:
        case And(keys):
            for item in keys:
                yield from _texts_in(item)
        case Or(left, right):
            yield from _texts_in(left)
            yield from _texts_in(right)
        case Not(inner):
            yield from _texts_in(inner)
        case TextMatch() | HeaderMatch():
            yield key


def _narrowed(
    view: MailboxView, key: SearchKey, uids: Sequence[int], looked: Mapping[SearchKey, TextMatches]
) -> Sequence[int]:
    """Without the messages that lack a text which all must have; those that are gone stay, to be reported."""
    for item in key.keys if isinstance(key, And) else (key,):
        told = looked.get(item)
        if told is not None:
            found, unindexed = told.found, told.unindexed
            uids = [uid for uid in uids if holds(found, uid) or holds(unindexed, uid) or view.is_gone(uid)]
    return uids


async def _find(session: Session, matcher: Matcher, uids: Sequence[int]) -> Found:
    """What matches among these messages."""
    found = Found()
    looked_at = 0
    async for rows in read_rows(session, uids, matcher.columns):
        looked_at += len(rows)
        told = await _told(matcher, rows)
        unread = [row for row, is_met in zip(rows, told, strict=True) if is_met is None]
        read = await _meeting_by_text(session, matcher, unread) if unread else set()
        meeting = [row for row, is_met in zip(rows, told, strict=True) if is_met or row.uid in read]
        found.uids.extend(row.uid for row in meeting)
        if matcher.has_modseq:
            found.modseqs.extend(row.modseq for row in meeting)
        await session.pace.spend(len(rows) // 5)
    found.is_whole = looked_at == len(uids)
    return found


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
