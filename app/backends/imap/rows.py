"""Fetches rows for the index, in pipelined batches.

A message that the server refuses does not affect the others: messages missing from a batch are fetched again with
simpler items, and a message that cannot be fetched at all becomes a row with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace

from app.backends.imap.bisected_fetch import fetch_apart
from app.backends.imap.connection import CommandCompletion
from app.backends.imap.fetched import FetchReader, tells_content
from app.backends.imap.session import ClientSession
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
"""A Date further in the future than this is not used as the arrival time."""

REFERENCES = BodySection("HEADER", ("REFERENCES",))
_FACTS = ("UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE")
_PARSED = ("ENVELOPE", "BODYSTRUCTURE", REFERENCES)
_HEADER = BodySection("HEADER")
"""Fetched instead of the items that the server parses."""

NO_STRUCTURE = "its structure cannot be parsed"
NO_HEADER = "the mail server did not return its header"
NO_MESSAGE = "the mail server did not return this message"


@dataclass(frozen=True, slots=True)
class Row:
    """The data that the index stores of a message. `unread`: why the server returned neither header nor structure."""

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


def row_items(session: ClientSession, *, is_plain: bool = False) -> list[str | BodySection]:
    """The FETCH items of a row. With `is_plain`, the raw header, which the server does not have to parse."""
    items: list[str | BodySection] = list(_FACTS)
    if session.keeps_modseq:
        items.append("MODSEQ")
    if session.has("X-GM-EXT-1"):
        items += ["X-GM-MSGID", "X-GM-THRID"]
    elif session.has("OBJECTID"):
        items += ["EMAILID", "THREADID"]
    return [*items, *((_HEADER,) if is_plain else _PARSED)]


async def rows(session: ClientSession, name: str, uids: Sequence[int]) -> AsyncGenerator[list[Row], None]:
    """Rows of the mailbox's current messages in batches of ROWS_AT_ONCE, in the order of `uids`.

    SELECT and the first two batches are sent before the first response is read; then one batch is always in flight.
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
    session: ClientSession, completion: CommandCompletion, uids: Sequence[int], early: dict[int, FetchedMessage]
) -> list[Row]:
    """Rows of a batch. `early` holds responses received so far for messages of later batches."""
    reader = FetchReader(early)
    await reader.read(completion)
    messages = {uid: early.pop(uid) for uid in uids if uid in early}
    if completion.status == "OK":
        messages |= await _fetch_again(
            session, [uid for uid, message in messages.items() if not tells_content(message)]
        )
    rows = {uid: row_of(message) for uid, message in messages.items() if _is_whole(message)}
    missing = [uid for uid in uids if uid not in rows]
    if completion.status != "OK":
        if not (rows or missing) or completion.is_throttling:
            completion.check()
    elif not reader.is_any_broken:
        missing = [uid for uid in missing if uid in messages]  # the others do not exist
    if missing:
        rows |= await _reread(session, missing, messages)
    return dated([rows[uid] for uid in uids if uid in rows])


async def _fetch_again(session: ClientSession, uids: Sequence[int]) -> dict[int, FetchedMessage]:
    """Messages for which the server sent only flags, unsolicited, because they arrived during the command."""
    reader = FetchReader({})
    if uids:
        exchange = await session.begin_fetch(SequenceSet.of(uids), row_items(session))
        await reader.read(await session.protocol.settle(exchange))
    return {uid: message for uid, message in reader.messages.items() if uid in uids}


def _is_whole(message: FetchedMessage) -> bool:
    return message.envelope is not None and message.structure is not None and message.size_bytes is not None


async def _reread(
    session: ClientSession, uids: Sequence[int], messages: Mapping[int, FetchedMessage]
) -> dict[int, Row]:
    """Rows of incompletely returned messages, from the raw header or from the items that the server returns.

    Messages that are neither returned nor refused do not exist. Raises ServerRefused if the server returns nothing.
    """
    plain = await fetch_apart(session, uids, row_items(session, is_plain=True))
    rows = {uid: row_of(message, (NO_STRUCTURE,)) for uid, message in plain.messages.items() if message.sections}
    missing = [uid for uid in uids if uid not in rows]
    bare = await fetch_apart(session, missing, _FACTS) if missing else None
    unread = 0
    for uid in missing if bare is not None else ():
        assert bare is not None
        message = messages.get(uid) or bare.messages.get(uid) or plain.messages.get(uid)
        refusal = plain.refused.get(uid) or bare.refused.get(uid)
        if message is not None or refusal is not None or uid in plain.broken:
            rows[uid] = unread_row(uid, message, refusal)
            unread += 1
    if unread:
        log.warning("messages_not_read", messages=unread)
    return rows


def unread_row(uid: int, message: FetchedMessage | None, refusal: str | None) -> Row:
    """The row of a message that the server does not return, with the known data and the reason."""
    problem = NO_MESSAGE if message is None else NO_HEADER
    reason = f"{problem}: {refusal}" if refusal else problem
    row = row_of(message or FetchedMessage(0, uid), (reason,))
    return replace(row, uid=uid, problems=(reason,), unread=reason)


def row_of(message: FetchedMessage, problems: tuple[str, ...] = ()) -> Row:
    """A row from a FETCH with `row_items`, including the plain items with the raw header.

    `received_at_ms` is the Date if INTERNALDATE cannot be parsed, and 0 if there is neither.
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
    """The same rows; a row without a time gets that of the row before or after it, else `near_ms` or now."""
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
