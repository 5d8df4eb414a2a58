"""SEARCH and UID SEARCH, with the answers of ESEARCH and SEARCHRES (RFC 9051 §6.4.4, RFC 7162 §3.1.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.db.session import Row
from app.mail.identifiers import now_ms
from app.mailstore.blobs import BlobMissing
from app.mailstore.views import is_detailed
from app.servers.conversation import Outlet
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.matching import Content, Matcher
from app.servers.imap.session import Session
from app.servers.imap.view import MailboxView
from app.wire.imap.requests import Search
from app.wire.imap.search import And, Numbers, SavedResult, SearchKey
from app.wire.imap.sets import SequenceSet

ROWS_LIMIT, DETAILED_ROWS_LIMIT = 1_000, 100
CONTENTS_LIMIT_BYTES = 4 * 1024 * 1024
"""How much message text is held at a time, unless one message is larger."""
SEARCH_SECONDS = 60.0

Found = list[tuple[int, int]]
"""(UID, MODSEQ) of what matches, ascending; MODSEQ is 0 where nobody asked for it."""


async def search(session: Session, command: Search, out: Outlet) -> Completion:
    """SEARCH. Refused with LIMIT when it takes too long.

    A message that another session removed can't be looked at any more: EXPUNGEISSUED says so (RFC 5530 §3).
    """
    view = session.selected
    matcher = Matcher(command.key, view, now_ms())
    if matcher.has_modseq:
        await session.enable_condstore(out)
    try:
        async with asyncio.timeout(SEARCH_SECONDS):
            found, is_whole = await _find(session, matcher, candidates(view, command.key))
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


async def _find(session: Session, matcher: Matcher, uids: Sequence[int]) -> tuple[Found, bool]:
    """What matches, and whether every message was there to be looked at."""
    modseq = matcher.place("modseq") if matcher.has_modseq else None
    blob, size = (matcher.place("blob"), matcher.place("size_bytes")) if matcher.needs_content else (0, 0)
    found: Found = []
    looked_at = 0
    step = DETAILED_ROWS_LIMIT if is_detailed(matcher.columns) else ROWS_LIMIT
    for start in range(0, len(uids), step):
        wanted = uids[start : start + step]
        rows = await session.services.views.rows(session.account, session.selected.mailbox_id, wanted, matcher.columns)
        looked_at += len(rows)
        if matcher.needs_content:
            matching = await _matching_contents(session, matcher, rows, blob, size)
        else:
            matching = [row for row in rows if matcher.meets(row, _NOTHING)]
        found += [(row[0], row[modseq] if modseq is not None else 0) for row in matching]
        await asyncio.sleep(0)
    return found, looked_at == len(uids)


_NOTHING = Content(None)


async def _matching_contents(
    session: Session, matcher: Matcher, rows: Sequence[Row], blob: int, size: int
) -> list[Row]:
    """Compare messages with their text, in a thread, a few megabytes at a time."""
    matching: list[Row] = []
    held: list[tuple[Row, Content]] = []
    held_bytes = 0
    for row in rows:
        held.append((row, Content(await _read(session, row[blob]))))
        held_bytes += row[size]
        if held_bytes >= CONTENTS_LIMIT_BYTES:
            matching += await asyncio.to_thread(_meeting, matcher, held)
            held, held_bytes = [], 0
    return matching + await asyncio.to_thread(_meeting, matcher, held)


def _meeting(matcher: Matcher, held: list[tuple[Row, Content]]) -> list[Row]:
    return [row for row, content in held if matcher.meets(row, content)]


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
