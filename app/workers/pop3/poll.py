"""One session with a POP3 server: fetches new mail, and deletes what the retention rule allows.

A message is deleted on the server only after its bytes were stored on disk and read back. Its line is `delete_pending`
before DELE is sent, and `deleted` once a later list lacks it, so a crash at any point only repeats a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from app import faults
from app.backends.pop3.backend import Pop3Backend
from app.backends.pop3.session import Entry, Pop3Session
from app.errors import MailServerError, TooLarge
from app.mail.delta import Arrived, Delta, MailboxCounted, Note, OnServer, Removed
from app.mail.events import SyncProgress
from app.mail.identifiers import now_ms
from app.mail.types import AccountId, Mailbox
from app.mailstore.index import Index
from app.mailstore.pop3_ledger import Key, Line, Pop3Ledger, Pop3State
from app.mailstore.reader import MailReader
from app.mailstore.store import MESSAGE_LIMIT_BYTES
from app.telemetry import get_logger
from app.workers.pop3.comparing import (
    DAY_MS,
    Lines,
    Listed,
    compare,
    is_suspicious,
    keyed,
    lost_by_id,
    removable,
    same_messages,
)
from app.workers.pop3.fetching import GLIMPSE_FROM_BYTES, TOO_LARGE, Fetching, WantedMessage
from app.workers.pop3.patience import Patience
from app.workers.pop3.reading import header_hash

log = get_logger(__name__)

FORGET_DELETED_MS = 30 * DAY_MS
"""How long deletions on the server are remembered, in case a message comes back."""


@dataclass(frozen=True, slots=True)
class PollOutcome:
    """`arrived` is new mail, with UIDs. `has_more`: the session's time ended, and more is to be fetched.

    `asked_at_ms` is the time just before the list was requested: later mail is not in it.
    """

    arrived: Sequence[Arrived]
    has_more: bool
    login_delay_seconds: int
    asked_at_ms: int


class Pop3Poll:
    """Polls one account; reused for each poll."""

    def __init__(
        self, account_id: AccountId, index: Index, reader: MailReader, backend: Pop3Backend, epoch: int
    ) -> None:
        self._account_id = account_id
        self._reader = reader
        self._backend = backend
        self._ledger = Pop3Ledger(backend.database, index, backend.bus, account_id, epoch)
        self._suspects: frozenset[Key] = frozenset()
        self._too_large: set[Key] = set()
        self._patience = Patience()

    async def run(self) -> PollOutcome:
        """Run one session. Raises what `Pop3Origin.open` raises, Conflict, AccountNotFound."""
        async with self._backend.session() as session:
            try:
                outcome = await self._run(session)
            except TooLarge:  # the connection cannot be used any more: the next session skips this message
                log.warning("pop3_message_too_large", account_id=self._account_id)
                return PollOutcome((), True, session.capabilities.login_delay_seconds, 0)
            faults.point("pop3.before_quit")
            with suppress(MailServerError):  # without +OK, the next list shows what was deleted
                await session.quit()
        faults.point("pop3.quit")
        return outcome

    async def _run(self, session: Pop3Session) -> PollOutcome:
        asked_at_ms = now_ms()
        entries = await session.listing()
        names = await self._names(session, entries)
        entries = [entry for entry in entries if entry.number in names]
        listed = keyed(entries, [names[entry.number] for entry in entries])
        inbox = next(
            mailbox for mailbox in await self._reader.mailboxes.mailboxes(self._account_id) if mailbox.path == "INBOX"
        )
        lines = await self._ledger.rows()
        if not inbox.is_complete and not lines:
            await self._begin(inbox, listed)
        else:
            await self._settle(session, listed, lines)
        arrived, has_more = await self._fetch(session, listed, inbox, lost_by_id(listed, lines))
        await self._remove(session, listed)
        return PollOutcome(arrived, has_more, session.capabilities.login_delay_seconds, asked_at_ms)

    async def _names(self, session: Pop3Session, entries: Sequence[Entry]) -> dict[int, str]:
        """Name of each message by its number: its UIDL, or the hash of its header if it has none.

        A message without UIDL whose header the server does not return is left for a later session.
        """
        names = {entry.number: entry.uidl for entry in entries if entry.uidl is not None}
        nameless = [entry for entry in entries if entry.uidl is None]
        names |= {entry.number: header_hash(header) async for entry, header in session.headers(nameless)}
        if len(names) < len(entries):
            log.warning("pop3_messages_not_shown", account_id=self._account_id, messages=len(entries) - len(names))
        return names

    # ---- comparing the list

    async def _begin(self, inbox: Mailbox, listed: Listed) -> None:
        """Record the first list. Its messages are not announced by events."""
        count = len(listed)
        now = now_ms()
        lines = [Line(key, entry.size_bytes, Pop3State.LISTED, changed_at_ms=now) for key, entry in listed.items()]
        counted = MailboxCounted(inbox.id, total=count, unread=count, is_complete=None if count else True)
        await self._ledger.write(lines, delta=Delta(mailboxes_counted=(counted,)))

    async def _settle(self, session: Pop3Session, listed: Listed, lines: Lines) -> None:
        """Write the differences between the list and the ledger."""
        comparison = compare(listed, lines)
        same = await self._same(session, listed, comparison.fresh, lost_by_id(listed, lines))
        known = {line.key for line in same.values()}
        missing = [line for line in comparison.missing if line.key not in known]
        if self._is_doubtful(missing, lines):
            missing = []
        put, drop, delta = [], [line.key for line in same.values()], Delta()
        for key, line in [*same.items(), *((line.key, line) for line in comparison.back)]:
            put.append(_back(line, key, listed[key]))
            delta += _held(line, is_on_server=True) if line.state is Pop3State.GONE else Delta()
        if any(line.state is Pop3State.LISTED for line in comparison.missing):  # new ids during an initial sync
            new = [Line(key, listed[key].size_bytes, Pop3State.LISTED) for key in comparison.fresh if key not in same]
            put += new
        for line in missing:
            after = self._without(line)
            if after is None:
                drop.append(line.key)
            elif after is not line:
                put.append(after)
                delta += self._loss_of(line)
        drop += [line.key for line in lines.values() if _is_forgotten(line) and line.key not in listed]
        if put or drop:
            await self._ledger.write(put, drop, delta)

    def _is_doubtful(self, missing: Sequence[Line], lines: Lines) -> bool:
        """Whether to wait for a second list: a server may list an empty maildrop by mistake."""
        suspects = frozenset(line.key for line in missing) if is_suspicious(missing, lines) else frozenset()
        is_confirmed = suspects <= self._suspects
        self._suspects = suspects
        if suspects and not is_confirmed:
            log.warning("pop3_list_doubted", account_id=self._account_id, missing=len(suspects))
        return not is_confirmed

    async def _same(
        self, session: Pop3Session, listed: Listed, fresh: Sequence[Key], lost: Sequence[Line]
    ) -> dict[Key, Line]:
        """Known messages with new UIDLs. RFC 1939 §7 forbids renumbering; servers do it."""
        sizes = {line.size_bytes for line in lost if line.header_hash is not None}
        candidates = {listed[key].number: key for key in fresh if listed[key].size_bytes in sizes}
        if not candidates:
            return {}
        entries = [listed[key] for key in candidates.values()]
        hashes = {
            candidates[entry.number]: (entry.size_bytes, header_hash(header))
            async for entry, header in session.headers(entries)
        }
        return same_messages(lost, hashes)

    def _without(self, line: Line) -> Line | None:
        """The new line of a message that is missing on the server; None when the line is not needed any more."""
        now = now_ms()
        if line.state is Pop3State.LISTED:
            return None
        if line.state in (Pop3State.KEPT, Pop3State.DELETE_PENDING) or line.is_deleted_here:
            return replace(line, state=Pop3State.DELETED, changed_at_ms=now)
        if line.state is Pop3State.GONE:  # missing in a second list too
            return replace(line, state=Pop3State.DELETED, changed_at_ms=now) if self._backend.rules.is_mirror else line
        return replace(line, state=Pop3State.GONE, changed_at_ms=now)

    def _loss_of(self, line: Line) -> Delta:
        if line.state is Pop3State.GONE and line.place is not None:
            return Delta(removed=(Removed(line.place),))
        return _held(line, is_on_server=False)

    # ---- fetching

    async def _fetch(
        self, session: Pop3Session, listed: Listed, inbox: Mailbox, lost: Sequence[Line]
    ) -> tuple[Sequence[Arrived], bool]:
        """Fetch messages. Return the new mail, and whether the session's time is over."""
        lines = await self._ledger.rows()
        awaited = sum(line.state is Pop3State.LISTED for line in lines.values())
        lost = [line for line in lost if line.key in lines]
        progress = _Progress(inbox, len(listed), awaited)
        fetching = Fetching(session, self._ledger, self._backend.store, inbox.id, lost, progress.notes)
        if await self._show_large(
            fetching, [WantedMessage(key, entry, lines.get(key)) for key, entry in listed.items()]
        ):
            lines = await self._ledger.rows()
        wanted = [WantedMessage(key, entry, lines.get(key)) for key, entry in listed.items()]
        chosen = self._in_order(wanted)
        is_over = await fetching.fetch(chosen, self._too_large)
        for item in chosen:
            self._patience.note(item.key, is_refused=item.entry.number in fetching.refused)
        if not inbox.is_complete and not is_over:
            counted = MailboxCounted(inbox.id, is_complete=True)
            await self._ledger.write(delta=Delta(mailboxes_counted=(counted,), notes=progress.end()))
        return fetching.new, is_over

    async def _show_large(self, fetching: Fetching, wanted: Sequence[WantedMessage]) -> bool:
        """Write rows for large new messages, and for messages too large to fetch. Whether there were any."""
        unshown = [item for item in wanted if item.is_unshown]
        huge = [item for item in unshown if self._is_huge(item)]
        large = [item for item in unshown if item.line is None and item.entry.size_bytes >= GLIMPSE_FROM_BYTES]
        large = [item for item in large if not self._is_huge(item)]
        await fetching.glimpse(large)
        await fetching.show_unread(huge, dict.fromkeys((item.entry.number for item in huge), TOO_LARGE))
        return bool(large or huge)

    def _is_huge(self, wanted: WantedMessage) -> bool:
        return wanted.entry.size_bytes > MESSAGE_LIMIT_BYTES or wanted.key in self._too_large

    def _in_order(self, wanted: Sequence[WantedMessage]) -> list[WantedMessage]:
        """Messages to fetch: new mail first, then older messages, newest first."""
        able = [item for item in wanted if not self._is_huge(item) and self._patience.is_due(item.key)]
        fresh = [item for item in able if item.line is None]
        seen = [
            item for item in able if item.line and item.line.state is Pop3State.SEEN and not item.line.is_deleted_here
        ]
        listed = [item for item in able if item.line and item.line.state is Pop3State.LISTED]
        return [*fresh, *seen, *reversed(listed)]

    # ---- deleting on the server

    async def _remove(self, session: Pop3Session, listed: Listed) -> None:
        lines = await self._ledger.rows()
        now = now_ms()
        deleted_here = [
            replace(line, state=Pop3State.KEPT, changed_at_ms=now)
            for line in lines.values()
            if line.state in (Pop3State.SEEN, Pop3State.STORED) and line.is_deleted_here
        ]
        lines |= {line.key: line for line in deleted_here}
        doomed = [
            line for line in removable(listed, lines, self._backend.rules.retention, now) if await self._is_safe(line)
        ]
        pending = [replace(line, state=Pop3State.DELETE_PENDING, changed_at_ms=now) for line in doomed]
        if deleted_here or pending:
            await self._ledger.write([*(item for item in deleted_here if item not in doomed), *pending])
        faults.point("pop3.pending")
        unfinished = [
            listed[key] for key, line in lines.items() if key in listed and line.state is Pop3State.DELETE_PENDING
        ]
        doomed_entries = [*unfinished, *(listed[line.key] for line in pending)]
        if doomed_entries:
            await session.delete(doomed_entries)
            faults.point("pop3.deleted")

    async def _is_safe(self, line: Line) -> bool:
        """Whether the server's copy is no longer needed: ours is intact on disk, or the owner deleted it."""
        if line.state is Pop3State.KEPT:
            return True
        is_intact = line.content_hash is not None and await self._backend.store.blobs.is_intact(line.content_hash)
        if not is_intact:
            log.error("pop3_copy_damaged", account_id=self._account_id, message_id=line.message_id)
        return is_intact


class _Progress:
    """Counts the messages of an initial sync for its progress events."""

    def __init__(self, inbox: Mailbox, total: int, awaited: int) -> None:
        self._inbox = inbox
        self._total = total
        self._indexed = total - awaited

    def notes(self, count: int) -> tuple[Note, ...]:
        self._indexed += count
        return self._note(is_complete=False)

    def end(self) -> tuple[Note, ...]:
        return self._note(is_complete=True)

    def _note(self, *, is_complete: bool) -> tuple[Note, ...]:
        event = SyncProgress(self._inbox.id, self._indexed, self._total, is_complete)
        return (Note(event, self._inbox.id),)


def _back(line: Line, key: Key, entry: Entry) -> Line:
    """The new line of a message that is on the server again, or that has another id now."""
    state = line.state
    if state is Pop3State.GONE:
        state = Pop3State.STORED if line.content_hash else Pop3State.SEEN
    elif state is Pop3State.DELETED:
        state = Pop3State.DELETE_PENDING
    return replace(line, key=key, size_bytes=entry.size_bytes, state=state, changed_at_ms=now_ms())


def _held(line: Line, *, is_on_server: bool) -> Delta:
    return Delta() if line.place is None else Delta(held=(OnServer(line.place, is_on_server=is_on_server),))


def _is_forgotten(line: Line) -> bool:
    return line.state is Pop3State.DELETED and line.changed_at_ms < now_ms() - FORGET_DELETED_MS
