"""Rows for the index: what is kept of a message that arrived, fetched in pipelined batches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import fetched, in_slices
from app.backends.imap.session import Session
from app.errors import ServerProtocolError
from app.mail.storable import KEY_BYTES, storable
from app.mail.types import BodyPart, Envelope, Flags, Overview
from app.mime.fields import first_value, split_fields
from app.mime.header import envelope_of, overview_of, overview_problems
from app.telemetry import get_logger
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage, parse_fetch
from app.wire.imap.sets import SequenceSet

log = get_logger(__name__)

ROWS_AT_ONCE = 200

REFERENCES = BodySection("HEADER", ("REFERENCES",))
_PARSED = ("ENVELOPE", "BODYSTRUCTURE", REFERENCES)
_PLAIN = (BodySection("HEADER"),)
"""In the place of what the server parses."""


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


def row_items(session: Session, *, is_plain: bool = False) -> list[str | BodySection]:
    """What is fetched of a message for its row. `is_plain`: its header itself, which the server need not parse."""
    items: list[str | BodySection] = ["UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE"]
    if session.keeps_modseq:
        items.append("MODSEQ")
    if session.has("X-GM-EXT-1"):
        items += ["X-GM-MSGID", "X-GM-THRID"]
    elif session.has("OBJECTID"):
        items += ["EMAILID", "THREADID"]
    return [*items, *(_PLAIN if is_plain else _PARSED)]


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


async def _rows_of(
    session: Session, completion: Completion, asked: Sequence[int], early: Mapping[int, Row]
) -> dict[int, Row]:
    """Rows by UID, also of the next batch where the server was early.

    A response that breaks the grammar costs that message its structure, not its row.
    """
    found: dict[int, Row] = {}
    is_any_broken = False
    async for response in in_slices(completion.responses):
        try:
            message = parse_fetch(response)
        except ServerProtocolError:
            is_any_broken = True
            continue
        if message.uid is not None and message.size_bytes is not None:
            found[message.uid] = row_of(message)
    missing = [uid for uid in asked if uid not in found and uid not in early]
    if is_any_broken and missing:
        found.update(await _plain_rows(session, missing))
    return found


async def _plain_rows(session: Session, uids: Sequence[int]) -> dict[int, Row]:
    exchange = await session.begin_fetch(SequenceSet.of(uids), row_items(session, is_plain=True))
    completion = (await session.protocol.settle(exchange)).check()
    messages = await fetched(completion, is_tolerant=True)
    if broken := len(set(uids) - messages.keys()):
        log.warning("messages_not_read", messages=broken)
    return {uid: row_of(message, ("its structure cannot be read",)) for uid, message in messages.items()}


def row_of(message: FetchedMessage, problems: tuple[str, ...] = ()) -> Row:
    """A row of a FETCH with `row_items`, or with the plain items, which hold the header itself."""
    fields = split_fields(next((text for text in message.sections.values() if isinstance(text, bytes)), b""))
    envelope = message.envelope or (envelope_of(fields) if fields else Envelope())
    overview = overview_of(envelope, first_value(fields, "references"))
    origin_id = message.email_id or _digits(message.gmail_message_id)
    origin_thread_id = message.thread_id or _digits(message.gmail_thread_id)
    return Row(
        uid=message.uid or 0,
        flags=message.flags or frozenset(),
        received_at_ms=message.internal_date_ms or 0,
        size_bytes=message.size_bytes or 0,
        overview=overview,
        structure=message.structure,
        modseq=message.modseq or 0,
        origin_id=None if origin_id is None else storable(origin_id, KEY_BYTES),
        origin_thread_id=None if origin_thread_id is None else storable(origin_thread_id, KEY_BYTES),
        problems=problems + overview_problems(overview),
    )


def _digits(number: int | None) -> str | None:
    return None if number is None else str(number)
