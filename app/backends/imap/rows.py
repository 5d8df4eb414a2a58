"""Rows for the index: what is kept of a message that arrived, fetched in pipelined batches.

One message that the server does not give costs the others nothing: what a batch lacks is asked for again by itself, in
simpler forms, and what cannot be had in any form is a row that says why.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace

from app.backends.imap.bisected_fetch import fetch_apart
from app.backends.imap.connection import Completion
from app.backends.imap.fetched import FetchReader, tells_content
from app.backends.imap.session import Session
from app.mail.identifiers import now_ms
from app.mail.storable import KEY_BYTES, storable
from app.mail.types import BodyPart, Envelope, Flags, Overview
from app.mime.fields import first_value, split_fields
from app.mime.header import envelope_of, overview_of, overview_problems
from app.telemetry import get_logger
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

log = get_logger(__name__)

ROWS_AT_ONCE = 200
FUTURE_MS = 24 * 3600 * 1000
"""A Date that is later than this from now is not when a message came."""

REFERENCES = BodySection("HEADER", ("REFERENCES",))
_FACTS = ("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE")
_PARSED = ("ENVELOPE", "BODYSTRUCTURE", REFERENCES)
_HEADER = BodySection("HEADER")
"""In the place of what the server parses."""

NO_STRUCTURE = "its structure cannot be read"
NO_HEADER = "the mail server does not give its header"
NO_MESSAGE = "the mail server did not return this message"


@dataclass(frozen=True, slots=True)
class Row:
    """What the index keeps of a message. `unread` says why the server gave neither its header nor its structure."""

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
    unread: str | None = None


def row_items(session: Session, *, is_plain: bool = False) -> list[str | BodySection]:
    """What is fetched of a message for its row. `is_plain`: its header itself, which the server need not parse."""
    items: list[str | BodySection] = list(_FACTS)
    if session.keeps_modseq:
        items.append("MODSEQ")
    if session.has("X-GM-EXT-1"):
        items += ["X-GM-MSGID", "X-GM-THRID"]
    elif session.has("OBJECTID"):
        items += ["EMAILID", "THREADID"]
    return [*items, *((_HEADER,) if is_plain else _PARSED)]


async def rows(session: Session, name: str, uids: Sequence[int]) -> AsyncGenerator[list[Row], None]:
    """Rows in batches of ROWS_AT_ONCE, in the order of `uids`, of the mailbox as it is now.

    The SELECT and two batches are on their way before the first is read, then always one more.
    """
    batches = [uids[start : start + ROWS_AT_ONCE] for start in range(0, len(uids), ROWS_AT_ONCE)]
    items = row_items(session)
    early: dict[int, FetchedMessage] = {}
    coming = [await session.begin_select(name)]
    try:
        coming += [await session.begin_fetch(SequenceSet.of(batch), items) for batch in batches[:2]]
        await session.end_select(name, coming.pop(0))
        for index, batch in enumerate(batches):
            completion = await session.protocol.settle(coming.pop(0))
            if index + 2 < len(batches):
                coming.append(await session.begin_fetch(SequenceSet.of(batches[index + 2]), items))
            yield await _rows_of(session, completion, batch, early)
    finally:
        for exchange in coming:
            exchange.abandon()


async def _rows_of(
    session: Session, completion: Completion, asked: Sequence[int], early: dict[int, FetchedMessage]
) -> list[Row]:
    """Rows of a batch; `early` is what the server told so far of messages of later ones."""
    reader = FetchReader(early)
    await reader.read(completion)
    told = {uid: early.pop(uid) for uid in asked if uid in early}
    if completion.status == "OK":
        told |= await _fetch_again(session, [uid for uid, message in told.items() if not tells_content(message)])
    found = {uid: row_of(message) for uid, message in told.items() if _is_whole(message)}
    lacking = [uid for uid in asked if uid not in found]
    if completion.status != "OK":
        if not (found or lacking) or completion.is_throttling:
            completion.check()
    elif not reader.is_any_broken:
        lacking = [uid for uid in lacking if uid in told]  # the others are not there
    if lacking:
        found |= await _reread(session, lacking, told)
    return dated([found[uid] for uid in asked if uid in found])


async def _fetch_again(session: Session, uids: Sequence[int]) -> dict[int, FetchedMessage]:
    """Messages for which the server sent only flags, unsolicited, because they arrived during the command."""
    reader = FetchReader({})
    if uids:
        exchange = await session.begin_fetch(SequenceSet.of(uids), row_items(session))
        await reader.read(await session.protocol.settle(exchange))
    return {uid: message for uid, message in reader.messages.items() if uid in uids}


def _is_whole(message: FetchedMessage) -> bool:
    return message.envelope is not None and message.structure is not None and message.size_bytes is not None


async def _reread(session: Session, uids: Sequence[int], told: Mapping[int, FetchedMessage]) -> dict[int, Row]:
    """Rows of messages that did not come whole: by the header itself, else by what the server does tell.

    Those of which it tells nothing, and refuses nothing, are not there. Raises ServerRefused where it gives nothing.
    """
    plain = await fetch_apart(session, uids, row_items(session, is_plain=True))
    found = {uid: row_of(message, (NO_STRUCTURE,)) for uid, message in plain.messages.items() if message.sections}
    lacking = [uid for uid in uids if uid not in found]
    bare = await fetch_apart(session, lacking, _FACTS) if lacking else None
    unread = 0
    for uid in lacking if bare is not None else ():
        assert bare is not None
        message = told.get(uid) or bare.messages.get(uid) or plain.messages.get(uid)
        refusal = plain.refused.get(uid) or bare.refused.get(uid)
        if message is not None or refusal is not None or uid in plain.broken:
            found[uid] = unread_row(uid, message, refusal)
            unread += 1
    if unread:
        log.warning("messages_not_read", messages=unread)
    return found


def unread_row(uid: int, message: FetchedMessage | None, refusal: str | None) -> Row:
    """The row of a message that the server does not return: what else is known of it, and the reason."""
    problem = NO_MESSAGE if message is None else NO_HEADER
    reason = f"{problem}: {refusal}" if refusal else problem
    row = row_of(message or FetchedMessage(0, uid), (reason,))
    return replace(row, uid=uid, problems=(reason,), unread=reason)


def row_of(message: FetchedMessage, problems: tuple[str, ...] = ()) -> Row:
    """A row of a FETCH with `row_items`, or with the plain items, which hold the header itself.

    `received_at_ms` is the Date where the server's INTERNALDATE cannot be read, 0 where there is neither.
    """
    fields = split_fields(next((text for text in message.sections.values() if isinstance(text, bytes)), b""))
    envelope = message.envelope or (envelope_of(fields) if fields else Envelope())
    overview = overview_of(envelope, first_value(fields, "references"))
    origin_id = message.email_id or _digits(message.gmail_message_id)
    origin_thread_id = message.thread_id or _digits(message.gmail_thread_id)
    return Row(
        uid=message.uid or 0,
        flags=message.flags or frozenset(),
        received_at_ms=_received_at(message, overview),
        size_bytes=message.size_bytes or 0,
        overview=overview,
        structure=message.structure,
        modseq=message.modseq or 0,
        origin_id=None if origin_id is None else storable(origin_id, KEY_BYTES),
        origin_thread_id=None if origin_thread_id is None else storable(origin_thread_id, KEY_BYTES),
        problems=problems + overview_problems(overview),
    )


def _received_at(message: FetchedMessage, overview: Overview) -> int:
    if message.internal_date_ms is not None and message.internal_date_ms > 0:
        return message.internal_date_ms
    date_ms = overview.date_ms or 0
    return date_ms if 0 < date_ms < now_ms() + FUTURE_MS else 0


def dated(rows: Sequence[Row], near_ms: int = 0) -> list[Row]:
    """The same rows; one whose time nobody knows has that of the row before or after it, else `near_ms` or now."""
    known = [row.received_at_ms for row in rows if row.received_at_ms]
    if len(known) == len(rows):
        return list(rows)
    last = known[0] if known else near_ms or now_ms()
    filled = []
    for row in rows:
        last = row.received_at_ms or last
        filled.append(row if row.received_at_ms else replace(row, received_at_ms=last))
    return filled


def _digits(number: int | None) -> str | None:
    return None if number is None else str(number)
