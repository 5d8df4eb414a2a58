"""SEARCH and UID SEARCH, with the answers of ESEARCH and SEARCHRES (RFC 9051 §6.4.4, RFC 7162 §3.1.5).

The full-text index is asked first: it compares as a reader of the message would. Messages are read for what it does
not hold, and only where nothing else decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from app.db.session import Row
from app.mail.identifiers import now_ms
from app.mail.searchable import fold
from app.mailstore.blobs import BlobMissing
from app.mailstore.texts import Looked
from app.mailstore.views import is_detailed
from app.mime.searchable import searchable_in
from app.servers.conversation import Outlet
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.matching import Matcher, scope_of
from app.servers.imap.news import catch_up
from app.servers.imap.session import Session
from app.servers.imap.view import MailboxView
from app.wire.imap.requests import Search
from app.wire.imap.search import And, HeaderMatch, Not, Numbers, Or, SavedResult, SearchKey, TextMatch
from app.wire.imap.sets import SequenceSet

ROWS_LIMIT, DETAILED_ROWS_LIMIT = 1_000, 100
CONTENTS_LIMIT_BYTES = 4 * 1024 * 1024
"""How much message text is held at a time, unless one message is larger."""
SEARCH_SECONDS = 60.0
FEW = 10
"""So few messages are read sooner than a text is looked for in all."""
LOOKS_LIMIT = 10
"""Different texts of one search that the index is asked for; for more, messages are read."""

Found = list[tuple[int, int]]
"""(UID, MODSEQ) of what matches, ascending; MODSEQ is 0 where nobody asked for it."""


async def search(session: Session, command: Search, out: Outlet) -> Completion:
    """SEARCH. Refused with LIMIT when it takes too long.

    A message that another session removed can't be looked at any more: EXPUNGEISSUED says so (RFC 5530 §3).
    """
    view = session.selected
    uids = candidates(view, command.key)
    try:
        async with asyncio.timeout(SEARCH_SECONDS):
            looked = await _look(session, command.key) if len(uids) > FEW else {}
            matcher = Matcher(command.key, view, now_ms(), looked)
            if matcher.has_modseq:
                await session.enable_condstore(out)
            found, is_whole = await _find(session, matcher, _narrowed(view, command.key, uids, looked))
    except TimeoutError:
        raise CommandRefused("LIMIT", "The search takes too long; narrow it") from None
    if command.returning is None:
        await out.send(_plain_answer(view, command, found, matcher))
    else:
        await out.send(_extended_answer(view, command, found, matcher, session))
    return Completion("SEARCH completed") if is_whole else Completion("Some messages are gone", "EXPUNGEISSUED")


def candidates(view: MailboxView, key: SearchKey) -> Sequence[int]:
    """The UIDs to look at: those that the criteria name, where they name some, else all."""
    for one in key.keys if isinstance(key, And) else (key,):
        if isinstance(one, Numbers):
            return view.resolve(one.numbers, is_uid=one.is_uid, is_search=True)
        if isinstance(one, SavedResult):
            return view.resolve(one, is_uid=one.is_uid)
    return view.uids()


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
            uids = [uid for uid in uids if uid in told.found or uid in told.unindexed or view.is_gone(uid)]
    return uids


async def _find(session: Session, matcher: Matcher, uids: Sequence[int]) -> tuple[Found, bool]:
    """What matches, and whether every message was there to be looked at."""
    modseq = matcher.place("modseq") if matcher.has_modseq else None
    blob, size = matcher.place("blob"), matcher.place("size_bytes")
    found: Found = []
    looked_at = 0
    step = DETAILED_ROWS_LIMIT if is_detailed(matcher.columns) else ROWS_LIMIT
    for start in range(0, len(uids), step):
        wanted = uids[start : start + step]
        rows = await session.services.views.rows(session.account, session.selected.mailbox_id, wanted, matcher.columns)
        looked_at += len(rows)
        told = await _told(matcher, rows)
        unread = [row for row, is_met in zip(rows, told, strict=True) if is_met is None]
        read = await _meeting_by_text(session, matcher, unread, blob, size) if unread else set()
        matching = [row for row, is_met in zip(rows, told, strict=True) if is_met or row[0] in read]
        found += [(row[0], row[modseq] if modseq is not None else 0) for row in matching]
        await asyncio.sleep(0)
    return found, looked_at == len(uids)


async def _told(matcher: Matcher, rows: Sequence[Row]) -> list[bool | None]:
    """Whether each row meets the criteria; None where its message must be read. Headers are compared in a thread."""

    def compare() -> list[bool | None]:
        return [matcher.meets(row, None) for row in rows]

    return await asyncio.to_thread(compare) if is_detailed(matcher.columns) else compare()


async def _meeting_by_text(session: Session, matcher: Matcher, rows: Sequence[Row], blob: int, size: int) -> set[int]:
    """UIDs of the messages that meet the criteria by their text, read a few megabytes at a time."""
    meeting: set[int] = set()
    held: list[tuple[Row, bytes]] = []
    held_bytes = 0
    for row in rows:
        held.append((row, await _read(session, row[blob])))
        held_bytes += row[size]
        if held_bytes >= CONTENTS_LIMIT_BYTES:
            meeting |= await asyncio.to_thread(_meeting, matcher, held)
            held, held_bytes = [], 0
    return meeting | await asyncio.to_thread(_meeting, matcher, held)


def _meeting(matcher: Matcher, held: Sequence[tuple[Row, bytes]]) -> set[int]:
    return {row[0] for row, content in held if matcher.meets(row, searchable_in(content))}


async def _read(session: Session, blob: str) -> bytes:
    """A message's bytes; none where they are damaged, which a search passes over."""
    try:
        return await session.services.store.blobs.get(blob)
    except BlobMissing:
        return b""


def _plain_answer(view: MailboxView, command: Search, found: Found, matcher: Matcher) -> bytes:
    numbers = [uid if command.is_uid else view.number_of(uid) for uid, _ in found]
    modseq = b" (MODSEQ %d)" % max(one for _, one in found) if matcher.has_modseq and found else b""
    return b"* SEARCH%b%b\r\n" % (b"".join([b" %d" % number for number in numbers]), modseq)


def _extended_answer(view: MailboxView, command: Search, found: Found, matcher: Matcher, session: Session) -> bytes:
    """ESEARCH (RFC 4731 §3.1); RETURN () means ALL. With SAVE alone nothing is told."""
    returning = command.returning or frozenset({"ALL"})
    numbers = [uid if command.is_uid else view.number_of(uid) for uid, _ in found]
    if "SAVE" in returning:
        session.selected.saved = _saved(returning, [uid for uid, _ in found])
        if returning == {"SAVE"}:
            return b""
    words = [f' (TAG "{session.tag}")', *([" UID"] if command.is_uid else [])]
    if numbers:
        ends = {"MIN": numbers[0], "MAX": numbers[-1]}
        words += [f" {name} {number}" for name, number in ends.items() if name in returning]
        if "ALL" in returning:
            words.append(f" ALL {SequenceSet.of(numbers)}")
    if "COUNT" in returning:
        words.append(f" COUNT {len(numbers)}")
    if matcher.has_modseq and found:
        words.append(f" MODSEQ {_told_modseq(returning, found)}")
    return f"* ESEARCH{''.join(words)}\r\n".encode()


def _saved(returning: frozenset[str], uids: list[int]) -> tuple[int, ...]:
    """What `$` stands for: with MIN or MAX, and neither ALL nor COUNT, only those (RFC 5182 §2.4)."""
    if returning & {"ALL", "COUNT"} or not returning & {"MIN", "MAX"}:
        return tuple(uids)
    ends = ([uids[:1]] if "MIN" in returning else []) + ([uids[-1:]] if "MAX" in returning else [])
    return tuple(sorted({uid for end in ends for uid in end}))


def _told_modseq(returning: frozenset[str], found: Found) -> int:
    """The highest MODSEQ of the messages that are told (RFC 4731 §3.2)."""
    if returning & {"ALL", "COUNT"}:
        return max(modseq for _, modseq in found)
    ends = ([found[0]] if "MIN" in returning else []) + ([found[-1]] if "MAX" in returning else [])
    return max((modseq for _, modseq in ends), default=0)
