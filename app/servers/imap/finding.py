"""Finds messages by search criteria, for SEARCH, SORT and THREAD (RFC 9051 §6.4.4).

The full-text index is queried first, with the same comparison as for message text. Messages that are not in the index
are read only if no other criterion decides.
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
from app.servers.imap.session import ServerSession
from app.servers.imap.uids import holds
from app.servers.imap.view import MailboxView
from app.wire.imap.search import And, HeaderMatch, Not, Numbers, Or, SavedResult, SearchKey, TextMatch

COMPARISONS_LIMIT = 1_000
"""Comparisons of criteria with rows in the event loop; more run in a thread."""
CONTENTS_LIMIT_BYTES = 4 * 1024 * 1024
"""Bytes of message text held at a time, unless one message is larger."""
SEARCH_SECONDS = 60.0
READ_UNITS = 10
"""Work (see `Yielding`) of reading a message."""
FEW = 10
"""Up to this number of messages, reading them is faster than querying the index."""
TEXTS_LIMIT = 10
"""Different texts of one search that are queried in the index; for others, messages are read."""


@dataclass(slots=True)
class SearchResult:
    """The UIDs of the matching messages, ascending.

    `modseqs` has their MODSEQs if a criterion has MODSEQ, else it is empty. `is_whole` is False if some messages were
    expunged before they could be compared.
    """

    uids: array[int] = field(default_factory=lambda: array("I"))
    modseqs: array[int] = field(default_factory=lambda: array("Q"))
    is_whole: bool = True

    def highest_modseq(self, uids: Iterable[int] | None = None) -> int:
        """Return the highest MODSEQ of these messages (None: of all); 0 if no criterion has MODSEQ."""
        if uids is None or not self.modseqs:
            return max(self.modseqs, default=0)
        return max(self.modseqs[bisect_left(self.uids, uid)] for uid in uids)

    def completion(self, name: str) -> Completion:
        """Return the tagged response, with EXPUNGEISSUED if messages were expunged (RFC 5530 §3)."""
        if self.is_whole:
            return Completion(f"{name} completed")
        return Completion("Some messages were expunged", "EXPUNGEISSUED")


@asynccontextmanager
async def search_time(session: ServerSession, returning: Collection[str] | None = None) -> AsyncIterator[None]:
    """Limit the time of a search. Raises CommandRefused with LIMIT after it.

    A failed search with SAVE leaves `$` empty (RFC 5182 §2.1).
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


async def find(session: ServerSession, key: SearchKey, out: ReplyWriter) -> SearchResult:
    """Find the messages of the selected mailbox that meet the criteria. The MODSEQ criterion enables CONDSTORE."""
    view = session.selected
    uids = await _candidates(session, key)
    text_matches = await _query_index(session, key) if len(uids) > FEW else {}
    matcher = await asyncio.to_thread(Matcher, key, view, now_ms(), text_matches)
    if matcher.has_modseq:
        await session.enable_condstore(out)
    uids = await asyncio.to_thread(_narrowed, view, key, uids, text_matches) if text_matches else uids
    return await _find(session, matcher, uids)


async def _candidates(session: ServerSession, key: SearchKey) -> Sequence[int]:
    """Return the UIDs to compare: the UIDs that the criteria name, or all."""
    for item in key.keys if isinstance(key, And) else (key,):
        if isinstance(item, Numbers):
            return await session.named(item.numbers, is_uid=item.is_uid, is_search=True)
        if isinstance(item, SavedResult):
            return await session.named(item, is_uid=item.is_uid)
    return session.selected.uids()


async def _query_index(session: ServerSession, key: SearchKey) -> Mapping[SearchKey, TextMatches]:
    """Query the full-text index for the texts in these criteria."""
    text_matches: dict[SearchKey, TextMatches] = {}
    for item in _texts_in(key):
        scope = scope_of(item)
        if scope is not None and item not in text_matches and len(text_matches) < TEXTS_LIMIT:
            account_id, mailbox_id = session.account, session.selected.mailbox_id
            text_matches[item] = await session.services.texts.look(account_id, mailbox_id, scope, fold(item.text))
    if text_matches:
        await catch_up(session)  # messages removed before the query are no longer in the index
    return text_matches


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
    view: MailboxView, key: SearchKey, uids: Sequence[int], text_matches: Mapping[SearchKey, TextMatches]
) -> Sequence[int]:
    """Remove messages that lack a required text. Expunged messages stay, because they must be reported."""
    for item in key.keys if isinstance(key, And) else (key,):
        matches = text_matches.get(item)
        if matches is not None:
            found, unindexed = matches.found, matches.unindexed
            uids = [uid for uid in uids if holds(found, uid) or holds(unindexed, uid) or view.is_gone(uid)]
    return uids


async def _find(session: ServerSession, matcher: Matcher, uids: Sequence[int]) -> SearchResult:
    """Return the matches among these messages."""
    result = SearchResult()
    compared = 0
    async for rows in read_rows(session, uids, matcher.columns):
        compared += len(rows)
        results = await _compared(matcher, rows)
        unread = [row for row, is_met in zip(rows, results, strict=True) if is_met is None]
        read = await _meeting_by_text(session, matcher, unread) if unread else set()
        meeting = [row for row, is_met in zip(rows, results, strict=True) if is_met or row.uid in read]
        result.uids.extend(row.uid for row in meeting)
        if matcher.has_modseq:
            result.modseqs.extend(row.modseq for row in meeting)
        await session.pace.spend(len(rows) // 5)
    result.is_whole = compared == len(uids)
    return result


async def _compared(matcher: Matcher, rows: Sequence[MessageValues]) -> list[bool | None]:
    """Return whether each row meets the criteria; None: read its message. Long comparisons run in a thread."""

    def compare() -> list[bool | None]:
        return [matcher.meets(row, None) for row in rows]

    is_long = is_detailed(matcher.columns) or len(rows) * matcher.criteria > COMPARISONS_LIMIT
    return await asyncio.to_thread(compare) if is_long else compare()


async def _meeting_by_text(session: ServerSession, matcher: Matcher, rows: Sequence[MessageValues]) -> set[int]:
    """Return the UIDs of messages that meet the criteria by their text, read a few megabytes at a time."""
    meeting: set[int] = set()
    read_messages: list[tuple[MessageValues, bytes]] = []
    read_bytes = 0
    for row in rows:
        read_messages.append((row, await _read(session, row.blob)))
        read_bytes += row.size_bytes
        await session.pace.spend(READ_UNITS)
        if read_bytes >= CONTENTS_LIMIT_BYTES:
            meeting |= await _meeting(session, matcher, read_messages)
            read_messages, read_bytes = [], 0
    return meeting | await _meeting(session, matcher, read_messages)


async def _meeting(
    session: ServerSession, matcher: Matcher, read_messages: Sequence[tuple[MessageValues, bytes]]
) -> set[int]:
    rows = {row.uid: row for row, _ in read_messages}
    texts = await _texts(session, {row.uid: content for row, content in read_messages})
    return await asyncio.to_thread(lambda: {uid for uid, text in texts.items() if matcher.meets(rows[uid], text)})


async def _texts(session: ServerSession, contents: Mapping[int, bytes]) -> Mapping[int, Searchable]:
    """Return texts by UID, without messages that are too complex to parse."""
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


async def _read(session: ServerSession, blob: str) -> bytes:
    """Return a message's bytes; b"" if they are missing or damaged, so that the search skips it."""
    try:
        return await session.services.store.blobs.get(blob)
    except BlobMissing:
        return b""
