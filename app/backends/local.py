"""MailBackend for embedded accounts, on Postgate's own store.

The index is the mailbox: the store writes each change in one transaction per mailbox, and it is not applied again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from app.backends.local_following import LocalWatch, arrived_of, origin_mailbox
from app.cluster.bus import Bus
from app.db.session import Database, Transaction
from app.errors import (
    InvalidRequest,
    MailboxNotFound,
    MessageNotFound,
    PartNotFound,
    PreconditionFailed,
    TimedOut,
    TooComplex,
    TooLarge,
)
from app.mail.backend import WHOLE, BackendChanges, ByteRange, OriginMailbox, Quota
from app.mail.confirmed import Applied, Confirmed
from app.mail.delta import (
    Arrived,
    Copied,
    Delta,
    Known,
    Location,
    Moved,
    Placed,
    Removed,
)
from app.mail.searchable import contains, fold, has_field
from app.mail.types import AccountId, Flags, Mailbox, MailboxId, Message, Role
from app.mailstore.reader import MailReader
from app.mailstore.store import MESSAGE_LIMIT_BYTES, FlagChange, MailStore
from app.mailstore.views import MailboxViews, MessageValues
from app.mime.body import part_at
from app.mime.searchable import own_header, searchable_in

CAPABILITIES = ("CONDSTORE", "MOVE", "SPECIAL-USE", "UIDPLUS")
SEARCH_SECONDS = 30.0
SEARCH_BATCH = 100
READ_AT_ONCE = 10
"""Messages that a search reads before it yields to the event loop."""


class LocalBackend:
    """Implements `MailBackend`. Holds no resources open."""

    def __init__(
        self, account_id: AccountId, store: MailStore, reader: MailReader, database: Database, bus: Bus
    ) -> None:
        self._account_id = account_id
        self._store = store
        self._reader = reader
        self._views = MailboxViews(database)
        self._bus = bus

    host = ""

    # ---- reading

    async def capabilities(self) -> Sequence[str]:
        return CAPABILITIES

    async def quotas(self) -> Sequence[Quota] | None:
        """None: embedded accounts have no limits."""
        return None

    async def read_raw(self, message: Message, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        blob = await self._blob(message)
        async for piece in self._store.blobs.stream(blob, span):
            yield piece

    async def read_part(self, message: Message, section: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        structure = (await self._reader.messages.detail(self._account_id, message.id)).structure
        part = part_at(structure, section) if structure is not None else None
        if part is None or part.span is None:
            raise PartNotFound
        _, start, stop = part.span
        low = min(start + span.start, stop)
        high = stop if span.stop is None else min(stop, start + span.stop)
        blob = await self._blob(message)
        async for piece in self._store.blobs.stream(blob, ByteRange(low, max(low, high))):
            yield piece

    async def read_parts(self, message: Message, sections: Sequence[str]) -> Mapping[str, bytes]:
        detail = await self._reader.messages.detail(self._account_id, message.id)
        parts = {} if detail.structure is None else {part.section: part for part in detail.structure.walk()}
        contents: dict[str, bytes] = {}
        blob = await self._blob(message) if any(section != "HEADER" for section in sections) else ""
        for section in sections:
            if section == "HEADER":
                contents[section] = detail.header or b""
                continue
            part = parts.get(section)
            if part is None or part.span is None:
                raise PartNotFound
            contents[section] = await self._store.blobs.get(blob, ByteRange(*part.span[1:]))
        return contents

    async def _blob(self, message: Message) -> str:
        """The blob of an existing message. Raises MessageNotFound for a deleted one, whose bytes may remain on disk."""
        blob = (await self._reader.messages.message(self._account_id, message.id)).blob
        if blob is None:
            raise MessageNotFound
        return blob

    async def contents(self, messages: Sequence[Message]) -> Mapping[int, bytes]:
        return {
            message.uid: await self._store.blobs.get(message.blob) for message in messages if message.blob is not None
        }

    async def search(
        self, mailbox: Mailbox, scope: str, value: str, uids: Collection[int] | None = None
    ) -> Collection[int]:
        """UIDs of matching messages. Raises TimedOut when there is too much mail to search."""
        if any(char < " " or char == "\x7f" for char in value):
            raise InvalidRequest("A search text must not contain control characters")
        if uids is None:
            uids = await self._reader.mirrored.known(self._account_id, mailbox.id)
        newest = sorted(uids, reverse=True)
        matches: set[int] = set()
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                for start in range(0, len(newest), SEARCH_BATCH):
                    matches |= await self._search(mailbox, newest[start : start + SEARCH_BATCH], scope, fold(value))
        except TimeoutError:
            raise TimedOut("Too many messages to search: narrow the search") from None
        return matches

    async def _search(self, mailbox: Mailbox, uids: Sequence[int], scope: str, folded: str) -> set[int]:
        if scope.startswith("header:"):
            name = scope.removeprefix("header:")
            rows = await self._views.rows(self._account_id, mailbox.id, uids, ("uid", "header"))
            return await asyncio.to_thread(_with_field, rows, name, folded)
        matches: set[int] = set()
        rows = await self._views.rows(self._account_id, mailbox.id, uids, ("uid", "blob"))
        for number, row in enumerate(rows, 1):
            if number % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
            if row.blob:
                content = await self._store.blobs.get(row.blob)
                with suppress(TooComplex):  # unparsable messages do not match
                    text = await self._store.parsers.run(self._account_id, len(content), searchable_in, content)
                    matches |= {row.uid} if contains(text, scope, folded) else set()
        return matches

    # ---- changing

    async def append(
        self, mailbox: Mailbox, content: AsyncIterator[bytes], size_bytes: int, flags: Flags, received_at_ms: int | None
    ) -> Confirmed:
        if size_bytes > MESSAGE_LIMIT_BYTES:
            raise TooLarge(f"A message may have at most {MESSAGE_LIMIT_BYTES} bytes")
        stored = await self._store.keep_stream(content)
        applied = await self._store.add(self._account_id, mailbox.id, [(stored, flags, received_at_ms)])
        ((location, message_id),) = applied.message_ids.items()
        message = await self._reader.messages.message(self._account_id, message_id)
        arrived = replace(
            stored.arrived,
            mailbox_id=mailbox.id,
            uid=location.uid,
            flags=message.flags,
            received_at_ms=message.received_at_ms,
            modseq=message.modseq,
        )
        return Confirmed(Delta(arrived=(arrived,)), applied)

    async def store_flags(
        self,
        messages: Sequence[Message],
        *,
        add: Flags = frozenset(),
        remove: Flags = frozenset(),
        unchanged_since: int | None = None,
    ) -> Confirmed:
        change = FlagChange(add, remove)

        async def store(mailbox_id: MailboxId, uids: Sequence[int]) -> Confirmed:
            stored = await self._store.store_flags(self._account_id, mailbox_id, uids, change, unchanged_since)
            if stored.modified:
                raise PreconditionFailed
            modseqs = stored.applied.modseqs
            flagged = tuple(
                replace(fact, modseq=modseqs.get(fact.location, 0)) for fact in stored.applied.delta.flagged
            )
            gone = set(uids).difference(fact.location.uid for fact in flagged)
            removed = tuple(Removed(Location(mailbox_id, uid)) for uid in sorted(gone))
            return Confirmed(Delta(flagged=flagged, removed=removed), stored.applied)

        return await self._in_each_mailbox(messages, store)

    async def move(self, messages: Sequence[Message], target: Mailbox) -> Confirmed:
        async def move(mailbox_id: MailboxId, uids: Sequence[int]) -> Confirmed:
            applied = await self._store.move(self._account_id, mailbox_id, uids, target.id)
            moved = tuple(Moved(source, place) for source, place in applied.copies.items())
            removed = tuple(Removed(place) for place in _missing(mailbox_id, uids, applied))
            return Confirmed(Delta(moved=moved, removed=removed), applied)

        return await self._in_each_mailbox([message for message in messages if message.mailbox_id != target.id], move)

    async def copy(self, messages: Sequence[Message], target: Mailbox) -> Confirmed:
        async def copy(mailbox_id: MailboxId, uids: Sequence[int]) -> Confirmed:
            applied = await self._store.copy(self._account_id, mailbox_id, uids, target.id)
            copied = tuple(Copied(source, place) for source, place in applied.copies.items())
            return Confirmed(Delta(copied=copied), applied)

        return await self._in_each_mailbox(messages, copy)

    async def expunge(self, messages: Sequence[Message]) -> Confirmed:
        async def expunge(mailbox_id: MailboxId, uids: Sequence[int]) -> Confirmed:
            applied = await self._store.expunge(
                self._account_id, mailbox_id, uids, only_deleted=False, conclude=self._removed
            )
            return Confirmed(Delta(removed=tuple(Removed(Location(mailbox_id, uid)) for uid in uids)), applied)

        return await self._in_each_mailbox(messages, expunge)

    async def _removed(self, transaction: Transaction, applied: Applied) -> None:
        """Hook that runs in each transaction that removes messages."""

    async def _in_each_mailbox(
        self, messages: Sequence[Message], act: Callable[[MailboxId, Sequence[int]], Awaitable[Confirmed]]
    ) -> Confirmed:
        """Call `act` with the UIDs of each mailbox in turn. Raises MessageNotFound if a mailbox is deleted."""
        delta, written = Delta(), None
        for mailbox_id, uids in (await self._by_mailbox(messages)).items():
            confirmed = await act(mailbox_id, uids)
            delta += confirmed.delta
            assert confirmed.written is not None
            written = confirmed.written if written is None else written + confirmed.written
        return Confirmed(delta, written)

    async def _by_mailbox(self, messages: Sequence[Message]) -> dict[MailboxId, list[int]]:
        """UIDs by mailbox. Raises MessageNotFound if a mailbox is deleted."""
        by_mailbox: dict[MailboxId, list[int]] = {}
        for message in messages:
            by_mailbox.setdefault(message.mailbox_id, []).append(message.uid)
        for mailbox_id in by_mailbox:
            try:
                await self._reader.mailboxes.mailbox(self._account_id, mailbox_id)
            except MailboxNotFound:
                raise MessageNotFound from None
        return by_mailbox

    # ---- mailboxes

    async def create_mailbox(self, path: str, role: Role | None = None) -> Confirmed:
        return _confirmed(await self._store.mailboxes.create(self._account_id, path, role))

    async def rename_mailbox(self, mailbox: Mailbox, path: str) -> Confirmed:
        return _confirmed(await self._store.mailboxes.rename(self._account_id, mailbox.id, path))

    async def delete_mailbox(self, mailbox: Mailbox) -> Confirmed:
        return _confirmed(await self._store.mailboxes.delete(self._account_id, mailbox.id))

    async def set_subscribed(self, mailbox: Mailbox, is_subscribed: bool) -> Confirmed:
        subscribed = self._store.mailboxes.subscribe(self._account_id, mailbox.path, is_subscribed=is_subscribed)
        return _confirmed(await subscribed)

    # ---- following

    async def list_mailboxes(self) -> Sequence[OriginMailbox]:
        return [origin_mailbox(mailbox) for mailbox in await self._reader.mailboxes.mailboxes(self._account_id)]

    async def newest(self, mailbox: Mailbox, count: int, below_uid: int | None = None) -> Sequence[Arrived]:
        known = await self._reader.mirrored.known(self._account_id, mailbox.id)
        uids = sorted((uid for uid in known if below_uid is None or uid < below_uid), reverse=True)[:count]
        return await self._arrived(mailbox, uids)

    async def fetch(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncIterator[Sequence[Arrived]]:
        for start in range(0, len(uids), SEARCH_BATCH):
            yield await self._arrived(mailbox, uids[start : start + SEARCH_BATCH])

    async def _arrived(self, mailbox: Mailbox, uids: Sequence[int]) -> list[Arrived]:
        messages = {
            message.uid: message for message in await self._reader.messages.locate(self._account_id, mailbox.id, uids)
        }
        return [
            arrived_of(
                messages[uid],
                await self._reader.messages.detail(self._account_id, messages[uid].id),
                mailbox.uid_validity,
            )
            for uid in uids
            if uid in messages
        ]

    async def placements(self, mailbox: Mailbox, uids: Sequence[int]) -> Sequence[Placed]:
        del mailbox, uids  # an embedded message is in one mailbox only
        return ()

    async def scan(self, mailbox: Mailbox, *, is_anew: bool = False) -> Mapping[int, Known]:
        del is_anew  # the index is the mailbox
        return await self._reader.mirrored.known(self._account_id, mailbox.id)

    async def uids(self, mailbox: Mailbox) -> Sequence[int]:
        return list(await self._reader.mirrored.known(self._account_id, mailbox.id))

    async def present(self, mailbox: Mailbox, uids: Collection[int]) -> Collection[int]:
        return {message.uid for message in await self._reader.messages.locate(self._account_id, mailbox.id, uids)}

    async def changes(self, mailbox: Mailbox) -> BackendChanges:
        now = await self._reader.mailboxes.mailbox(self._account_id, mailbox.id)
        known = await self._reader.mirrored.known(self._account_id, mailbox.id)
        changed = {uid: flags for uid, flags in known.items() if flags.modseq > mailbox.highest_modseq}
        return BackendChanges(changed, None, now.uid_validity, now.uid_next, now.highest_modseq)

    async def previews(self, messages: Sequence[Message]) -> Mapping[int, str]:
        return {message.uid: message.preview or "" for message in messages}

    async def watch(self, mailboxes: Sequence[Mailbox]) -> LocalWatch:  # noqa: ARG002 - one log covers them all
        return LocalWatch(self._bus, self._account_id, self.list_mailboxes)


def _missing(mailbox_id: MailboxId, uids: Sequence[int], applied: Applied) -> list[Location]:
    return [place for uid in uids if (place := Location(mailbox_id, uid)) not in applied.copies]


def _confirmed(applied: Applied) -> Confirmed:
    """The written changes with their Delta."""
    return Confirmed(applied.delta, applied)


def _with_field(rows: Sequence[MessageValues], name: str, folded: str) -> set[int]:
    """UIDs of messages with a header field `name` that contains a text."""
    return {row.uid for row in rows if has_field(own_header(row.header or b""), name, folded)}
