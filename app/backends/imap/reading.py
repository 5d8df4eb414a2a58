"""Reading messages of one mailbox: rows for the index, flags, changes since a MODSEQ, previews."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import fetched
from app.backends.imap.selected import Selected
from app.backends.imap.session import Session
from app.errors import PartNotFound, ServerProtocolError
from app.mail.roster import Roster
from app.mail.types import BodyPart, Envelope, Flags, Overview
from app.mime.body import decode_body, part_at, sections_to_fetch
from app.mime.fields import first_value, split_fields
from app.mime.header import envelope_of, overview_of, overview_problems
from app.mime.text import preview_of, text_of_html
from app.wire.imap.commands import BodySection, KnownState
from app.wire.imap.fetch import FetchedMessage, is_fetch, parse_fetch
from app.wire.imap.responses import Vanished
from app.wire.imap.search import All, And, Numbers, SearchKey
from app.wire.imap.sets import SequenceSet

ROWS_AT_ONCE = 200
FLAGS_AT_ONCE = 500
PARSED_AT_ONCE = 25
"""Rows that are read before others get their turn: some 3 ms."""
PREVIEW_BYTES = 4096
MAX_UIDS = 2_000_000
MAX_VANISHED = 250_000
"""Removals that are told one by one; where there are more, what is there is asked."""

REFERENCES = BodySection("HEADER", ("REFERENCES",))
_PLAIN_ITEMS = ("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", BodySection("HEADER"))


@dataclass(frozen=True, slots=True)
class Row:
    """What the index keeps of a message."""

    uid: int
    flags: Flags
    received_at_ms: int
    size_bytes: int
    overview: Overview
    structure: BodyPart | None
    modseq: int
    origin_id: str | None
    origin_thread_id: str | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Since:
    """What changed in a mailbox. `vanished` None: the server can't tell."""

    selected: Selected
    flags: Roster
    vanished: frozenset[int] | None


def row_items(session: Session) -> list[str | BodySection]:
    """What is fetched of a message for its row."""
    items: list[str | BodySection] = ["UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE"]
    if session.keeps_modseq:
        items.append("MODSEQ")
    if session.has("X-GM-EXT-1"):
        items += ["X-GM-MSGID", "X-GM-THRID"]
    elif session.has("OBJECTID"):
        items += ["EMAILID", "THREADID"]
    return [*items, REFERENCES]


async def uids_of(session: Session, name: str, within: SequenceSet | None = None) -> list[int]:
    """The UIDs of a mailbox (within a set), ascending."""
    return await search(session, name, All() if within is None else And((Numbers(within, is_uid=True),)))


async def search(session: Session, name: str, key: SearchKey) -> list[int]:
    """The UIDs that match, ascending. Raises ServerProtocolError for more than a mailbox can hold."""
    try:
        return list((await session.search(name, key)).numbers(MAX_UIDS))
    except ValueError:
        raise ServerProtocolError("The server names more messages than a mailbox can hold") from None


async def rows(session: Session, name: str, uids: Sequence[int]) -> AsyncGenerator[list[Row], None]:
    """Rows in batches of ROWS_AT_ONCE, in the order of `uids`, of the mailbox as it is now.

    The SELECT and two batches are on their way before the first is read, then always one more.
    """
    batches = [uids[start : start + ROWS_AT_ONCE] for start in range(0, len(uids), ROWS_AT_ONCE)]
    items = row_items(session)
    early: dict[int, Row] = {}
    coming = [await session.begin_select(name)]
    try:
        coming += [await session.begin_fetch(SequenceSet.of(batch), items) for batch in batches[:2]]
        await session.end_select(name, coming.pop(0))
        for index, batch in enumerate(batches):
            completion = (await session.protocol.settle(coming.pop(0))).check()
            if index + 2 < len(batches):
                coming.append(await session.begin_fetch(SequenceSet.of(batches[index + 2]), items))
            early.update(await _rows_of(session, completion, batch, early))
            yield [early.pop(uid) for uid in batch if uid in early]
    finally:
        for exchange in coming:
            exchange.abandon()


async def flags_of(session: Session, name: str, uids: Sequence[int]) -> Roster:
    """UID → flags (and MODSEQ where it is kept) of these messages, as far as they are there."""
    items = ["UID", "FLAGS", *(["MODSEQ"] if session.keeps_modseq else [])]
    found = Roster()
    for start in range(0, len(uids), FLAGS_AT_ONCE):
        fill(found, await session.fetch(name, SequenceSet.of(uids[start : start + FLAGS_AT_ONCE]), items))
        await asyncio.sleep(0)
    return found


def fill(roster: Roster, found: Mapping[int, FetchedMessage]) -> Roster:
    """Note what was fetched of flags."""
    for uid, message in sorted(found.items()):
        if message.flags is not None:
            roster.put(uid, message.flags, message.modseq or 0)
    return roster


async def changes_since(session: Session, name: str, known: KnownState) -> Since:
    """QRESYNC: all of it in one SELECT; CONDSTORE: flags by CHANGEDSINCE; else the flags of every message."""
    if known.modseq and session.has("QRESYNC"):
        selected, completion = await session.select(name, known=known)
        return Since(selected, fill(Roster(), fetched(completion)), _vanished(session, completion))
    selected, _ = await session.select(name)
    if selected.uid_validity != known.uid_validity:
        return Since(selected, Roster(), None)
    if known.modseq and selected.highest_modseq:
        everything = SequenceSet.parse("1:*")
        items = ("UID", "FLAGS", "MODSEQ")
        changed = await session.fetch(name, everything, items, changed_since=known.modseq)
        return Since(selected, fill(Roster(), changed), None)
    flags = await flags_of(session, name, await uids_of(session, name))
    if not selected.uid_next:  # SELECT need not tell it (RFC 3501 §6.3.1), and Courier doesn't
        selected.uid_next = max(flags, default=0) + 1
    return Since(selected, flags, None)


async def check_part(session: Session, name: str, uid: int, section: str) -> None:
    """Raises PartNotFound unless the message has this part; for a section that came empty.

    Dovecot 2.3 answers an empty string, not NIL, for a part that isn't there.
    """
    if section and section[0].isdigit():
        found = await session.fetch(name, SequenceSet.of([uid]), ("UID", "BODYSTRUCTURE"))
        structure = found[uid].structure if uid in found else None
        if structure is None or part_at(structure, section) is None:
            raise PartNotFound


async def previews_of(session: Session, name: str, uids: Sequence[int]) -> dict[int, str]:
    """UID → preview: PREVIEW (RFC 8970), else the start of the first text part.

    A server that offers PREVIEW may have none (NIL, RFC 8970 §3.1): Cyrus has none unless something else makes them.
    """
    previews: dict[int, str] = {}
    if session.has("PREVIEW"):
        found = await session.fetch(name, SequenceSet.of(uids), ("UID", "PREVIEW"))
        previews = {uid: preview_of(message.preview) for uid, message in found.items() if message.preview is not None}
        uids = [uid for uid in found if uid not in previews]
    if uids:
        previews |= await _previews_by_text(session, name, uids)
    return previews


async def _previews_by_text(session: Session, name: str, uids: Sequence[int]) -> dict[int, str]:
    found = await session.fetch(name, SequenceSet.of(uids), ("UID", "BODYSTRUCTURE"))
    structures = {uid: message.structure for uid, message in found.items() if message.structure is not None}
    previews = dict.fromkeys(structures, "")
    for section, with_it in _by_first_text(structures).items():
        start = BodySection(section, partial=(0, PREVIEW_BYTES))
        for uid, message in (await session.fetch(name, SequenceSet.of(with_it), ("UID", start))).items():
            if uid in structures:
                previews[uid] = _preview(message, part_at(structures[uid], section))
    return previews


def _by_first_text(structures: Mapping[int, BodyPart]) -> dict[str, list[int]]:
    """Section of the first text part → UIDs of the messages that have it there."""
    sections: dict[str, list[int]] = {}
    for uid, structure in structures.items():
        for section in sections_to_fetch(structure)[:1]:
            sections.setdefault(section, []).append(uid)
    return sections


def _preview(message: FetchedMessage, part: BodyPart | None) -> str:
    raw = next(iter(message.sections.values()), None)
    if part is None or not isinstance(raw, bytes):
        return ""
    text, _ = decode_body(raw, part)
    return preview_of(text_of_html(text) if part.media_type == "text/html" else text)


def _vanished(session: Session, completion: Completion) -> frozenset[int] | None:
    gone: set[int] = set()
    for response in session.parsed(completion):
        if isinstance(response, Vanished):
            if len(gone) + len(response.uids) > MAX_VANISHED:
                return None
            gone.update(response.uids.numbers(MAX_VANISHED))
    return frozenset(gone)


async def _rows_of(
    session: Session, completion: Completion, asked: Sequence[int], early: Mapping[int, Row]
) -> dict[int, Row]:
    """Rows by UID, also of the next batch where the server was early.

    A response that breaks the grammar costs that message its structure, not its row.
    """
    found: dict[int, Row] = {}
    is_any_broken = False
    for index, response in enumerate(completion.responses):
        if not is_fetch(response):
            continue
        try:
            message = parse_fetch(response)
        except ServerProtocolError:
            is_any_broken = True
            continue
        if message.uid is not None and message.size_bytes is not None:
            found[message.uid] = row_of(message)
        if index % PARSED_AT_ONCE == PARSED_AT_ONCE - 1:
            await asyncio.sleep(0)
    missing = [uid for uid in asked if uid not in found and uid not in early]
    if is_any_broken and missing:
        found.update(await _plain_rows(session, missing))
    return found


async def _plain_rows(session: Session, uids: Sequence[int]) -> dict[int, Row]:
    exchange = await session.begin_fetch(SequenceSet.of(uids), _PLAIN_ITEMS)
    completion = (await session.protocol.settle(exchange)).check()
    return {uid: row_of(message, ("its structure cannot be read",)) for uid, message in fetched(completion).items()}


def row_of(message: FetchedMessage, problems: tuple[str, ...] = ()) -> Row:
    """A row of a FETCH with `row_items`, or with the plain items, which hold the header itself."""
    fields = split_fields(next((text for text in message.sections.values() if isinstance(text, bytes)), b""))
    envelope = message.envelope or (envelope_of(fields) if fields else Envelope())
    overview = overview_of(envelope, first_value(fields, "references"))
    gmail_id, gmail_thread_id = message.gmail_message_id, message.gmail_thread_id
    return Row(
        uid=message.uid or 0,
        flags=message.flags or frozenset(),
        received_at_ms=message.internal_date_ms or 0,
        size_bytes=message.size_bytes or 0,
        overview=overview,
        structure=message.structure,
        modseq=message.modseq or 0,
        origin_id=message.email_id or (None if gmail_id is None else str(gmail_id)),
        origin_thread_id=message.thread_id or (None if gmail_thread_id is None else str(gmail_thread_id)),
        problems=problems + overview_problems(overview),
    )
