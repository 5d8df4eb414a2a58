"""Fetches messages from a POP3 server in one session and stores them in INBOX in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app import faults
from app.backends.pop3.session import Entry, Pop3Session
from app.errors import NotStorable, TooLarge
from app.mail.delta import Arrived, Completed, Delta, Note, OnServer
from app.mail.identifiers import now_ms
from app.mail.types import MailboxId
from app.mailstore.blobs import BlobWriter
from app.mailstore.content import StoredContent
from app.mailstore.pop3_ledger import Key, Line, Pop3Ledger, Pop3State
from app.mailstore.store import MESSAGE_LIMIT_BYTES, MailStore
from app.telemetry import get_logger
from app.workers.pop3.reading import arrival, glimpse, header_hash, header_of

log = get_logger(__name__)

GLIMPSE_FROM_BYTES = 256 * 1024
"""A new message of at least this size is listed by its header before it is fetched."""
REFUSED = "the mail server did not return this message"
TOO_LARGE = "the message is too large to be stored"
BATCH_COUNT = 100
BATCH_BYTES = 2 * 1024 * 1024
BATCH_SECONDS = 0.25
"""A batch ends at the first of these limits."""
SESSION_SECONDS = 60.0
"""The maildrop is locked for at most this long plus one message; the next session fetches the rest."""

Notes = Callable[[int], tuple[Note, ...]]


@dataclass(frozen=True, slots=True)
class WantedMessage:
    """A message to fetch. `line` is None for a message that is not in the ledger."""

    key: Key
    entry: Entry
    line: Line | None

    @property
    def is_unshown(self) -> bool:
        """Whether the message has no row in the index."""
        return self.line is None or self.line.state is Pop3State.LISTED


@dataclass(slots=True)
class _Batch:
    """Completely received messages that are stored together."""

    received: list[tuple[WantedMessage, BlobWriter]] = field(default_factory=list)
    size_bytes: int = 0
    began_at: float = field(default_factory=time.monotonic)

    @property
    def is_full(self) -> bool:
        is_long = time.monotonic() - self.began_at > BATCH_SECONDS
        return is_long or len(self.received) >= BATCH_COUNT or self.size_bytes >= BATCH_BYTES


@dataclass(slots=True)
class _Change:
    """A change to the ledger and the index, for messages that are on disk."""

    arrived: list[tuple[Line, Arrived]] = field(default_factory=list)
    put: list[Line] = field(default_factory=list)
    drop: list[Key] = field(default_factory=list)
    delta: Delta = field(default_factory=Delta)


class Fetching:
    """Fetches the messages of one session."""

    def __init__(
        self,
        session: Pop3Session,
        ledger: Pop3Ledger,
        store: MailStore,
        inbox: MailboxId,
        lost: Sequence[Line],
        notes: Notes,
    ) -> None:
        """`lost` are lines missing from the list, whose content may be on the server under another id.

        `notes` returns the progress of an initial sync, given the number of messages that it just fetched.
        """
        self._session = session
        self._ledger = ledger
        self._store = store
        self._inbox = inbox
        self._lost: dict[str | None, list[Line]] = {}
        for line in lost:
            self._lost.setdefault(line.content_hash, []).append(line)
        self._notes = notes
        self._until = time.monotonic() + SESSION_SECONDS
        self.refused: dict[int, str] = {}
        """Number of each refused message → the server's response text."""
        self.new: list[Arrived] = []
        """New mail, with UIDs."""

    async def glimpse(self, wanted: Sequence[WantedMessage]) -> None:
        """Write rows for messages from their headers."""
        by_number = {item.entry.number: item for item in wanted}
        async for entry, header in self._session.headers([item.entry for item in wanted]):
            await self._show(by_number[entry.number], header)

    async def show_unread(self, wanted: Sequence[WantedMessage], reasons: Mapping[int, str]) -> None:
        """Write rows for messages that cannot be fetched, with their headers if available. `reasons` is by number."""
        left = {item.entry.number: item for item in wanted}
        entries = [item.entry for item in wanted] if self._session.has_top else []
        async for entry, header in self._session.headers(entries):
            await self._show(left.pop(entry.number), header, reasons[entry.number])
        for number, item in left.items():
            await self._show(item, None, reasons[number])

    async def _show(self, wanted: WantedMessage, header: bytes | None, reason: str | None = None) -> None:
        """Write the row of a message without content. `reason` states why it cannot be fetched."""
        hashed = None if header is None else header_hash(header)
        line = Line(wanted.key, wanted.entry.size_bytes, Pop3State.SEEN, hashed, changed_at_ms=now_ms())
        arrived = glimpse(header or b"", wanted.entry.size_bytes, self._inbox, now_ms())
        if reason is not None:
            arrived = replace(arrived, problems=(reason,), unread=reason, preview="")
        await self._write(_Change(arrived=[(line, replace(arrived, is_announced=wanted.line is None))]))

    async def fetch(self, wanted: Sequence[WantedMessage], too_large: set[Key]) -> bool:
        """Fetch whole messages within the session's time. Return whether that time is over.

        Raises TooLarge when a message exceeds the limit, and adds its key to `too_large`; earlier messages are kept.
        """
        by_number = {item.entry.number: item for item in wanted}
        batch = _Batch()
        try:
            entries = [item.entry for item in wanted]
            async for entry in self._session.asked_for(entries, self._has_time, self.refused):
                await self._receive(by_number[entry.number], batch, too_large)
                if batch.is_full:
                    full, batch = batch, _Batch()
                    await self._finish(full)
        finally:
            await self._finish(batch)
        await self._show_refused(wanted)
        return not self._has_time()

    async def _show_refused(self, wanted: Sequence[WantedMessage]) -> None:
        """Write a row for each refused message that has none yet."""
        reasons = {number: f"{REFUSED}: {text}" if text else REFUSED for number, text in self.refused.items()}
        unshown = [item for item in wanted if item.entry.number in reasons and item.is_unshown]
        if unshown:
            log.warning("pop3_messages_refused", messages=len(unshown))
            await self.show_unread(unshown, reasons)

    def _has_time(self) -> bool:
        return time.monotonic() < self._until

    async def _receive(self, wanted: WantedMessage, batch: _Batch, too_large: set[Key]) -> None:
        writer = self._store.blobs.writer()
        try:
            await self._session.receive(wanted.entry, writer.write, MESSAGE_LIMIT_BYTES)
        except BaseException as error:
            writer.discard()
            if isinstance(error, TooLarge):
                too_large.add(wanted.key)
            raise
        faults.point("pop3.retrieved")
        batch.received.append((wanted, writer))
        batch.size_bytes += writer.size_bytes

    async def _finish(self, batch: _Batch) -> None:
        if batch.received:
            change = _Change()
            contents = await self._store.keep_all([writer for _, writer in batch.received])
            for (wanted, _), content in zip(batch.received, contents, strict=True):
                self._add(change, wanted, content)
            await self._write(change)

    def _add(self, change: _Change, wanted: WantedMessage, content: StoredContent) -> None:
        now = now_ms()
        is_listed = wanted.line is not None and wanted.line.state is Pop3State.LISTED
        arrived = arrival(content, self._inbox, now, is_announced=not is_listed)
        line = Line(
            wanted.key,
            wanted.entry.size_bytes,
            Pop3State.STORED,
            header_hash(header_of(content.arrived)),
            content.blob,
            wanted.line.message_id if wanted.line is not None else None,
            now,
            now,
        )
        if wanted.line is None and self._lost.get(content.blob):
            known = self._lost[content.blob].pop()
            change.drop.append(known.key)
            change.put.append(replace(line, message_id=known.message_id))
            if known.place is not None:
                change.delta += Delta(held=(OnServer(known.place, is_on_server=True),))
        elif wanted.line is not None and wanted.line.message_id is not None:
            change.put.append(line)
            if wanted.line.place is not None:
                change.delta += Delta(completed=(Completed(wanted.line.place, arrived),))
        else:
            change.arrived.append((line, arrived))

    async def _write(self, change: _Change) -> None:
        """Write a change. If the database refuses a value, each arrival is written by itself."""
        try:
            await self._write_whole(change)
        except NotStorable:
            log.warning("batch_refused", messages=len(change.arrived))
            if change.put or change.drop or change.delta:
                await self._write_tolerantly(replace(change, arrived=[]))
            for line, arrived in change.arrived:
                await self._write_tolerantly(_Change([(line, arrived)]), _Change([(line, arrived.bare())]))

    async def _write_tolerantly(self, *changes: _Change) -> None:
        """Write the first of these changes that the database accepts. If it accepts none, a later poll tries."""
        for change in changes:
            try:
                return await self._write_whole(change)
            except NotStorable:
                log.warning("message_refused", uidls=len(change.arrived))
        return None

    async def _write_whole(self, change: _Change) -> None:
        listed = sum(not arrived.is_announced for _, arrived in change.arrived)
        delta = change.delta + Delta(notes=self._notes(listed) if listed else ())
        applied = await self._ledger.write(change.put, change.drop, delta, change.arrived)
        faults.point("pop3.stored")
        for (_, arrived), location in zip(change.arrived, applied.message_ids, strict=True):
            if arrived.is_announced:
                self.new.append(replace(arrived, uid=location.uid))
