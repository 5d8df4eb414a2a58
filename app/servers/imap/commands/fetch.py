"""FETCH and UID FETCH: rows are read in batches; bodies come from their files, large ones in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.errors import MalformedRequest
from app.mail.backend import ByteRange
from app.mail.types import SEEN
from app.mailstore.store import FlagChange
from app.mailstore.views import MessageValues, structure_of
from app.servers.conversation import ClientLost, ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.handlers import Handler, Handlers, SessionState, with_uids
from app.servers.imap.news import catch_up, flag_list, new_keywords
from app.servers.imap.rows import read_rows
from app.servers.imap.sections import CHOSEN_LIMIT_BYTES, chosen_fields, cut, locate
from app.servers.imap.session import ServerSession
from app.servers.imap.vanished import send_vanished
from app.servers.imap.view import MailboxView
from app.wire.imap import render
from app.wire.imap.dates import render_date_time
from app.wire.imap.requests.fetch import Fetch, FetchItem, SectionRequest
from app.wire.imap.search import SavedResult
from app.wire.imap.sets import SequenceSet

RENDERED_UNITS = 500
"""Work (see `Yielding`) that is done on rows before yielding to the event loop."""
STREAM_FROM_BYTES = 256 * 1024
"""Sections of this size and above are sent in pieces."""

_STATE = ("uid", "flags", "modseq")
"""Columns that are read for every message."""
_COLUMNS: dict[str, tuple[str, ...]] = {
    "UID": (),
    "FLAGS": (),
    "MODSEQ": (),
    "INTERNALDATE": ("received_at_ms",),
    "RFC822.SIZE": ("size_bytes",),
    "ENVELOPE": ("imap_envelope",),
    "BODYSTRUCTURE": ("imap_body_structure",),
    "BODY": ("structure",),
    "EMAILID": ("blob",),
    "THREADID": ("thread_id",),
    "PREVIEW": ("preview",),
    "SAVEDATE": ("saved_at_ms",),
}
_BYTES_PER_UNIT = {"structure": 100, "imap_envelope": 4096, "imap_body_structure": 4096}
"""Columns that may be large, and how many of their bytes are a unit of work. A structure must be decoded."""
_UNITS = {"BODY": 20, "INTERNALDATE": 2, "SAVEDATE": 2, "ENVELOPE": 2, "BODYSTRUCTURE": 2}
_SECTION_UNITS = 20
_SECTION_COLUMNS = ("blob", "size_bytes", "header", "header_bytes", "structure")


def _date_or_nil(time_ms: int | None) -> bytes:
    return b"NIL" if time_ms is None else b'"%b"' % render_date_time(time_ms).encode()


Writer = Callable[[MessageValues, MailboxView], bytes]
_WRITERS: dict[str, Writer] = {
    "UID": lambda row, _: b"UID %d" % row.uid,
    "FLAGS": lambda row, view: b"FLAGS " + flag_list(row.flags, is_recent=row.uid in view.recent),
    "MODSEQ": lambda row, _: b"MODSEQ (%d)" % row.modseq,
    "INTERNALDATE": lambda row, _: b'INTERNALDATE "%b"' % render_date_time(row.received_at_ms).encode(),
    "RFC822.SIZE": lambda row, _: b"RFC822.SIZE %d" % row.size_bytes,
    "ENVELOPE": lambda row, _: b"ENVELOPE %b" % row.imap_envelope,
    "BODYSTRUCTURE": lambda row, _: b"BODYSTRUCTURE %b" % row.imap_body_structure,
    "BODY": lambda row, _: b"BODY %b" % render.structure(structure_of(row.structure), is_extended=False),
    "EMAILID": lambda row, _: b"EMAILID (%b)" % row.blob.encode(),
    "THREADID": lambda row, _: b"THREADID (%b)" % row.thread_id.encode(),
    "SAVEDATE": lambda row, _: b"SAVEDATE %b" % _date_or_nil(row.saved_at_ms),
    "PREVIEW": lambda row, _: b"PREVIEW %b" % render.nstring(row.preview),
}


@dataclass(frozen=True, slots=True)
class Section:
    """A body section, and its label in the response."""

    label: bytes
    request: SectionRequest


_RFC822 = {
    "RFC822": Section(b"RFC822", SectionRequest()),
    "RFC822.HEADER": Section(b"RFC822.HEADER", SectionRequest(kind="HEADER", is_peek=True)),
    "RFC822.TEXT": Section(b"RFC822.TEXT", SectionRequest(kind="TEXT")),
}


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """The columns of a FETCH, and a writer for each item."""

    columns: tuple[str, ...]
    items: tuple[Writer | Section, ...]
    sets_seen: bool
    sends_flags: bool
    units: int
    """The work to render a typical row (see `Yielding`)."""

    large: tuple[str, ...]
    """The columns that may be large."""

    def units_of(self, row: MessageValues) -> int:
        """Return the work to render a row."""
        return self.units + sum(len(getattr(row, name) or b"") // _BYTES_PER_UNIT[name] for name in self.large)

    @property
    def has_sections(self) -> bool:
        return any(isinstance(item, Section) for item in self.items)


@lru_cache(maxsize=64)
def plan_of(items: tuple[FetchItem, ...]) -> FetchPlan:
    """Return the plan of these items. Raises MalformedRequest for an unsupported item."""
    parsed = [_parsed(item) for item in items]
    columns = dict.fromkeys(_STATE)
    for item in parsed:
        columns.update(dict.fromkeys(_columns_of(item)))
    written = tuple(item if isinstance(item, Section) else _WRITERS[item] for item in parsed)
    sets_seen = any(isinstance(item, Section) and not item.request.is_peek for item in parsed)
    units = sum(_UNITS.get(item, 1) if isinstance(item, str) else _SECTION_UNITS for item in parsed)
    large = tuple(name for name in columns if name in _BYTES_PER_UNIT)
    return FetchPlan(tuple(columns), written, sets_seen, "FLAGS" in items, units, large)


def _parsed(item: FetchItem) -> str | Section:
    if isinstance(item, SectionRequest):
        if item.name != "BODY":
            raise MalformedRequest("BINARY is not offered")
        return Section(item.label, item)
    if item not in _COLUMNS and item not in _RFC822:
        raise MalformedRequest(f"{item} is not offered")
    return _RFC822.get(item, item)


def _columns_of(item: str | Section) -> tuple[str, ...]:
    if isinstance(item, Section):
        return _SECTION_COLUMNS if item.request.part else _SECTION_COLUMNS[:-1]
    return _COLUMNS[item]


async def fetch(session: ServerSession, command: Fetch, out: ReplyWriter) -> Completion:
    """FETCH. Messages that another session has expunged are skipped."""
    if command.vanished and not session.has_qresync:
        raise MalformedRequest("VANISHED requires ENABLE QRESYNC")
    if "MODSEQ" in command.items:
        await session.enable_condstore(out)
    if command.vanished:
        await _send_vanished(session, command, out)
    uids = await session.named(command.messages, is_uid=command.is_uid)
    count = await send_messages(session, command.items, uids, out, changed_since=command.changed_since)
    if count == len(uids) or command.is_uid:
        return Completion("FETCH completed")
    return Completion("Some messages were expunged", "EXPUNGEISSUED")


async def _send_vanished(session: ServerSession, command: Fetch, out: ReplyWriter) -> None:
    """Send VANISHED (EARLIER) for UID FETCH (CHANGEDSINCE … VANISHED)."""
    assert command.changed_since is not None
    view = session.selected
    mailbox = await session.services.reader.mailboxes.mailbox(session.account, view.mailbox_id)
    if isinstance(command.messages, SavedResult):
        known = await asyncio.to_thread(SequenceSet.of, view.saved)
    else:
        known = command.messages.resolved(max(view.last_uid, mailbox.uid_next - 1))
    await send_vanished(session, mailbox, command.changed_since, known, out)


async def send_messages(
    session: ServerSession,
    items: tuple[FetchItem, ...],
    uids: Sequence[int],
    out: ReplyWriter,
    *,
    changed_since: int | None = None,
) -> int:
    """Send FETCH responses with these items, for messages changed since a MODSEQ; return how many of all exist."""
    plan = plan_of(items)
    count = 0
    async for rows in read_rows(session, uids, plan.columns):
        count += len(rows)
        changed = [row for row in rows if row.modseq > changed_since] if changed_since else rows
        await _send_rows(session, plan, changed, out)
    return count


async def _send_rows(session: ServerSession, plan: FetchPlan, rows: Sequence[MessageValues], out: ReplyWriter) -> None:
    view = session.selected
    seen_uids: set[int] = set()
    if plan.sets_seen and not view.is_read_only:
        rows, seen_uids = await _mark_seen(session, plan, rows)
    if plan.sends_flags or seen_uids:
        await out.send(b"".join(new_keywords(view, (row.flags for row in rows))))
    if plan.has_sections:
        for row in rows:
            await _send_with_sections(session, plan, row, out, is_seen=row.uid in seen_uids)
            await session.pace.spend(plan.units_of(row))
        return
    for part, units in slices(plan, rows):
        await out.send(_rendered(plan, view, part))
        await session.pace.spend(units)


def slices(plan: FetchPlan, rows: Sequence[MessageValues]) -> Iterator[tuple[Sequence[MessageValues], int]]:
    """Yield slices of rows of about RENDERED_UNITS of work, each with its work. A row is never divided."""
    start = spent = 0
    for index, row in enumerate(rows):
        units = plan.units_of(row)
        if spent and spent + units > RENDERED_UNITS:
            yield rows[start:index], spent
            start, spent = index, 0
        spent += units
    if start < len(rows):
        yield rows[start:], spent


def _rendered(plan: FetchPlan, view: MailboxView, rows: Sequence[MessageValues]) -> bytes:
    """Return the responses for some rows, for a plan without sections."""
    writers = [item for item in plan.items if not isinstance(item, Section)]
    numbers = view.numbers_of([row.uid for row in rows])
    return b"".join(
        [
            b"* %d FETCH (%b)\r\n" % (number, b" ".join([write(row, view) for write in writers]))
            for number, row in zip(numbers, rows, strict=True)
        ]
    )


async def _mark_seen(
    session: ServerSession, plan: FetchPlan, rows: Sequence[MessageValues]
) -> tuple[Sequence[MessageValues], set[int]]:
    """Set `\\Seen` where it is missing; return the changed rows, and the UIDs on which it was set."""
    view, services = session.selected, session.services
    unseen = [row.uid for row in rows if SEEN not in row.flags.split(" ")]
    if not unseen:
        return rows, set()
    stored = await services.store.store_flags(
        session.account, view.mailbox_id, unseen, FlagChange(add=frozenset((SEEN,)))
    )
    await catch_up(session)
    view.mark_flags_sent(unseen, stored.applied.seq)
    uids = [row.uid for row in rows]
    return await services.views.rows(session.account, view.mailbox_id, uids, plan.columns), set(unseen)


async def _send_with_sections(
    session: ServerSession, plan: FetchPlan, row: MessageValues, out: ReplyWriter, *, is_seen: bool
) -> None:
    view = session.selected
    pieces = [b"* %d FETCH (" % view.number_of(row.uid)]
    for index, item in enumerate(plan.items):
        if index:
            pieces.append(b" ")
        if not isinstance(item, Section):
            pieces.append(item(row, view))
            continue
        content = await _content(session, item, row)
        pieces.append(item.label + b" ")
        if isinstance(content, ByteRange):
            await _stream(session, row.blob, content, b"".join(pieces), out)
            pieces = []
        else:
            pieces.append(b"NIL" if content is None else render.literal(content))
    if is_seen and not plan.sends_flags:
        pieces.append(b" FLAGS " + flag_list(row.flags, is_recent=row.uid in view.recent))
        if session.has_condstore:
            pieces.append(b" MODSEQ (%d)" % row.modseq)
    pieces.append(b")\r\n")
    await out.send(b"".join(pieces))


async def _content(session: ServerSession, section: Section, row: MessageValues) -> bytes | ByteRange | None:
    """Return a section's bytes, or their range in the file if they are too many; None if it does not exist."""
    request = section.request
    blob, size, header, header_bytes = row.blob, row.size_bytes, row.header, row.header_bytes
    chooses = request.kind.startswith("HEADER.FIELDS")
    if not request.part and request.kind.startswith("HEADER") and len(header) == header_bytes:
        return _partial(chosen_fields(header, request) if chooses else header, request)
    span = locate(request, header_bytes, size, lambda: structure_of(row.structure))
    if span is None:
        return None
    blobs = session.services.store.blobs
    if chooses:
        searched = cut(span, (0, CHOSEN_LIMIT_BYTES))
        header = await blobs.get(blob, searched)
        parsers = session.services.store.parsers
        return _partial(await parsers.run(session.account, len(header), chosen_fields, header, request), request)
    if span == ByteRange(0, size) and size < STREAM_FROM_BYTES:
        return _partial(await blobs.get(blob), request)  # complete, so that its hash is verified
    span = cut(span, request.partial)
    return span if _size(span) >= STREAM_FROM_BYTES else await blobs.get(blob, span)


def _partial(data: bytes, request: SectionRequest) -> bytes:
    span = cut(ByteRange(0, len(data)), request.partial)
    return data[span.start : span.stop]


def _size(span: ByteRange) -> int:
    assert span.stop is not None
    return span.stop - span.start


async def _stream(session: ServerSession, blob: str, span: ByteRange, before: bytes, out: ReplyWriter) -> None:
    """Send a literal from its file in pieces, after `before`. Later errors can only end the connection."""
    remaining = _size(span)
    start = before + b"{%d}\r\n" % remaining
    async for piece in session.services.store.blobs.stream(blob, span):
        await out.send(start + piece)
        start = b""
        remaining -= len(piece)
    if remaining:
        raise ClientLost("A stored message is shorter than the size in its row")


HANDLERS: Handlers = (
    Handler(
        Fetch,
        fetch,
        SessionState.SELECTED,
        capabilities=("CONDSTORE", "OBJECTID", "PREVIEW", "SAVEDATE"),
        may_expunge=with_uids,
    ),
)
