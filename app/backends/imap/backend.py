"""MailBackend by IMAP: one account on an external mail server."""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol

from app.backends.imap import changing, downloading, labels, organising, reading
from app.backends.imap.changing import Place, Transfer, Unchanged
from app.backends.imap.listing import list_mailboxes
from app.backends.imap.origin import Origin
from app.backends.imap.pool import Pool
from app.backends.imap.quota import quotas_of
from app.backends.imap.reading import Row
from app.backends.imap.session import Session
from app.backends.imap.watch import ImapWatch
from app.errors import MessageNotFound, PartNotFound, ServerRefused
from app.mail.backend import WHOLE, ByteRange, Changes, OriginMailbox, Quota
from app.mail.delta import (
    Arrived,
    Copied,
    Delta,
    Flagged,
    Known,
    Location,
    Moved,
    Placed,
    Removed,
)
from app.mail.types import AccountId, Flags, Mailbox, MailboxId, Message, Role
from app.wire.imap.commands import BodySection, KnownState
from app.wire.imap.search import And, HeaderMatch, Numbers, SearchKey, TextField, TextMatch
from app.wire.imap.sets import SequenceSet

MAX_COUNT = 4_294_967_295
PIECE_BYTES = 256 * 1024
SEARCHED_RANGES = 200
"""A search names the messages that it asks about up to so many ranges; beyond, the whole mailbox is cheaper to say."""


class Directory(Protocol):
    """Where the account's mailboxes are known by id: the index."""

    async def mailbox(self, account_id: AccountId, mailbox_id: str) -> Mailbox:
        """Raises MailboxNotFound."""
        ...

    async def mailboxes(self, account_id: AccountId) -> Sequence[Mailbox]: ...


class ImapBackend:
    """See `MailBackend`. Opens connections when they are needed; `close` ends them."""

    def __init__(self, account_id: AccountId, origin: Origin, directory: Directory, pool: Pool | None = None) -> None:
        self._account_id = account_id
        self._origin = origin
        self._directory = directory
        self._pool = pool or Pool(origin.open)

    @property
    def host(self) -> str:
        return f"{self._origin.login.host.lower()}:{self._origin.login.port}"

    async def close(self) -> None:
        """Close the working connections; a watch closes when its signals are no longer followed."""
        await self._pool.close()

    async def verify(self) -> None:
        """Connect and log in, nothing more."""
        async with self._pool.session():
            pass

    async def capabilities(self) -> Sequence[str]:
        async with self._pool.session() as session:
            return sorted(session.capabilities)

    async def quotas(self) -> Sequence[Quota] | None:
        return await self._pool.read(None, quotas_of)

    # ---- reading

    async def read_raw(self, message: Message, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        async with aclosing(self._stream(message, "", span)) as pieces:
            async for piece in pieces:
                yield piece

    async def read_part(self, message: Message, section: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        async with aclosing(self._stream(message, section, span)) as pieces:
            async for piece in pieces:
                yield piece

    async def _stream(self, message: Message, section: str, span: ByteRange) -> AsyncGenerator[bytes, None]:
        place = await self._place(message.mailbox_id)
        partial = None
        if span != WHOLE:
            count = MAX_COUNT - span.start if span.stop is None else span.stop - span.start
            partial = (span.start, count)
        wanted = BodySection(section, partial=partial)
        async with self._pool.session(place.name) as session:
            is_empty = True
            async with aclosing(downloading.stream(session, place.name, message.uid, wanted)) as chunks:
                async for chunk in chunks:
                    changing.check_validity(session, place)
                    for start in range(0, len(chunk), PIECE_BYTES):
                        is_empty = False
                        yield chunk[start : start + PIECE_BYTES]
            if is_empty:
                await reading.check_part(session, place.name, message.uid, section)

    async def read_parts(self, message: Message, sections: Sequence[str]) -> Mapping[str, bytes]:
        place = await self._place(message.mailbox_id)
        wanted = [BodySection(section) for section in sections]

        async def read(session: Session) -> Mapping[str, bytes]:
            found = await session.fetch(place.name, SequenceSet.of([message.uid]), ("UID", *wanted))
            changing.check_validity(session, place)
            if message.uid not in found:
                raise MessageNotFound
            parts = _parts(found[message.uid].sections, sections)
            for section in [section for section, content in parts.items() if not content]:
                await reading.check_part(session, place.name, message.uid, section)
            return parts

        return await self._pool.read(place.name, read)

    async def contents(self, messages: Sequence[Message]) -> Mapping[int, bytes]:
        if not messages:
            return {}
        place = await self._place(messages[0].mailbox_id)
        wanted = SequenceSet.of([one.uid for one in messages])

        async def read(session: Session) -> Mapping[int, bytes]:
            found = await session.fetch(place.name, wanted, ("UID", BodySection("")))
            changing.check_validity(session, place)
            contents = {uid: next(iter(one.sections.values()), None) for uid, one in found.items()}
            return {uid: content for uid, content in contents.items() if isinstance(content, bytes)}

        return await self._pool.read(place.name, read)

    async def search(
        self, mailbox: Mailbox, scope: str, value: str, uids: Collection[int] | None = None
    ) -> Collection[int]:
        key = _search_key(scope, value)
        within = None if uids is None else SequenceSet.of(sorted(uids))
        if within is not None and len(within.ranges) <= SEARCHED_RANGES:
            key = And((Numbers(within, is_uid=True), key))

        async def read(session: Session) -> Collection[int]:
            found = await reading.search(session, mailbox.origin_name, key)
            changing.check_validity(session, _place(mailbox))
            return found

        return await self._pool.read(mailbox.origin_name, read)

    # ---- changing

    async def append(
        self, mailbox: Mailbox, content: AsyncIterator[bytes], size_bytes: int, flags: Flags, received_at_ms: int | None
    ) -> Delta:
        name = mailbox.origin_name
        async with self._pool.session(name) as session:
            uid = await changing.append(session, name, content, size_bytes, flags, received_at_ms)
            rows = [row async for batch in reading.rows(session, name, [uid]) for row in batch]
            if not rows:
                raise ServerRefused("The mail server took the message and doesn't show it")
            return Delta(arrived=tuple(_arrived(mailbox, row, session) for row in rows))

    async def store_flags(
        self,
        messages: Sequence[Message],
        *,
        add: Flags = frozenset(),
        remove: Flags = frozenset(),
        unchanged_since: int | None = None,
    ) -> Delta:
        if not messages or not (add or remove):
            return Delta()
        condition = None if unchanged_since is None else Unchanged(unchanged_since, messages[0].flags)
        delta = Delta()
        for mailbox, uids in await self._by_mailbox(messages):
            async with self._pool.session(mailbox.origin_name) as session:
                changed = await changing.store_flags(
                    session, _place(mailbox), uids, add=add, remove=remove, condition=condition
                )
            delta += Delta(
                flagged=tuple(
                    Flagged(Location(mailbox.id, uid), message.flags or frozenset(), message.modseq or 0)
                    for uid, message in changed.items()
                ),
                removed=_removed(mailbox.id, [uid for uid in uids if uid not in changed]),
            )
        return delta

    async def move(self, messages: Sequence[Message], target: Mailbox) -> Delta:
        delta = Delta()
        for mailbox, uids in await self._by_mailbox(messages):
            if mailbox.id == target.id:
                continue
            async with self._pool.session(mailbox.origin_name) as session:
                if labels.is_keeping(session, mailbox) and target.role not in (Role.TRASH, Role.JUNK):
                    delta += await self._copy(session, messages, mailbox, uids, target)
                    continue
                transfer = await changing.move(session, _place(mailbox), uids, target.origin_name)
                pairs = await self._bound(session, messages, mailbox, transfer, target)
            moved = tuple(
                Moved(Location(mailbox.id, source), Location(target.id, copied)) for source, copied in pairs.items()
            )
            delta += Delta(moved=moved, removed=_removed(mailbox.id, [uid for uid in uids if uid not in pairs]))
        return delta

    async def copy(self, messages: Sequence[Message], target: Mailbox) -> Delta:
        delta = Delta()
        for mailbox, uids in await self._by_mailbox(messages):
            async with self._pool.session(mailbox.origin_name) as session:
                delta += await self._copy(session, messages, mailbox, uids, target)
        return delta

    async def _copy(
        self, session: Session, messages: Sequence[Message], source: Mailbox, uids: Sequence[int], target: Mailbox
    ) -> Delta:
        transfer = await changing.copy(session, _place(source), uids, target.origin_name)
        pairs = await self._bound(session, messages, source, transfer, target)
        is_shared = labels.are_mailboxes(session)
        return Delta(
            copied=tuple(
                Copied(Location(source.id, uid), Location(target.id, copied), is_shared=is_shared)
                for uid, copied in pairs.items()
            )
        )

    async def expunge(self, messages: Sequence[Message]) -> Delta:
        delta = Delta()
        for mailbox, uids in await self._by_mailbox(messages):
            async with self._pool.session(mailbox.origin_name) as session:
                known = await self._directory.mailboxes(self._account_id)
                ended = await labels.remove_for_good(session, known, mailbox, uids)
                if ended is None:
                    await changing.expunge(session, _place(mailbox), uids)
                    ended = Delta(removed=_removed(mailbox.id, uids))
            delta += ended
        return delta

    # ---- mailboxes

    async def create_mailbox(self, path: str, role: Role | None = None) -> Delta:
        async with self._pool.session() as session:
            return await organising.create_mailbox(session, path, role)

    async def rename_mailbox(self, mailbox: Mailbox, path: str) -> Delta:
        known = await self._directory.mailboxes(self._account_id)
        async with self._pool.session() as session:
            return await organising.rename_mailbox(session, known, mailbox, path)

    async def delete_mailbox(self, mailbox: Mailbox) -> Delta:
        async with self._pool.session() as session:
            return await organising.delete_mailbox(session, mailbox)

    async def set_subscribed(self, mailbox: Mailbox, is_subscribed: bool) -> Delta:
        async with self._pool.session() as session:
            return await organising.set_subscribed(session, mailbox, is_subscribed)

    # ---- following

    async def list_mailboxes(self) -> Sequence[OriginMailbox]:
        async def read(session: Session) -> Sequence[OriginMailbox]:
            await session.leave_mailbox()  # its numbers would be those that the session has seen
            return await list_mailboxes(session)

        return await self._pool.read(None, read)

    async def newest(self, mailbox: Mailbox, count: int, below_uid: int | None = None) -> Sequence[Arrived]:
        name = mailbox.origin_name
        within = None if below_uid is None else SequenceSet.of_ranges([(1, below_uid - 1)] if below_uid > 1 else [])

        async def read(session: Session) -> Sequence[Arrived]:
            uids = (await reading.uids_of(session, name, within))[::-1][:count]
            return [
                _arrived(mailbox, row, session) async for batch in reading.rows(session, name, uids) for row in batch
            ]

        return await self._pool.read(name, read)

    async def fetch(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncIterator[Sequence[Arrived]]:
        name = mailbox.origin_name
        async with self._pool.session(name) as session, aclosing(reading.rows(session, name, uids)) as batches:
            async for batch in batches:
                yield [_arrived(mailbox, row, session) for row in batch]

    async def placements(self, mailbox: Mailbox, uids: Sequence[int]) -> Sequence[Placed]:
        async def read(session: Session) -> Sequence[Placed]:
            return await labels.placements(session, mailbox, uids) if labels.are_mailboxes(session) else ()

        return await self._pool.read(mailbox.origin_name, read)

    async def scan(self, mailbox: Mailbox, *, is_anew: bool = False) -> Mapping[int, Known]:
        name = mailbox.origin_name

        async def read(session: Session) -> Mapping[int, Known]:
            return await reading.flags_of(session, name, await reading.uids_of(session, name))

        if not is_anew:
            return await self._pool.read(name, read)
        async with self._pool.session(name, is_new=True) as session:
            return await read(session)

    async def uids(self, mailbox: Mailbox) -> Sequence[int]:
        name = mailbox.origin_name

        async def read(session: Session) -> Sequence[int]:
            return array("I", await reading.uids_of(session, name))

        return await self._pool.read(name, read)

    async def present(self, mailbox: Mailbox, uids: Collection[int]) -> Collection[int]:
        name = mailbox.origin_name

        async def read(session: Session) -> Collection[int]:
            found = await session.fetch(name, SequenceSet.of(uids), ("UID",))
            is_known = session.selected is not None and session.selected.uid_validity == mailbox.uid_validity
            return found.keys() if is_known else ()

        return await self._pool.read(name, read)

    async def changes(self, mailbox: Mailbox) -> Changes:
        known = KnownState(mailbox.uid_validity, mailbox.highest_modseq)

        async def read(session: Session) -> Changes:
            since = await reading.changes_since(session, mailbox.origin_name, known)
            selected = since.selected
            return Changes(
                flags=since.flags,
                vanished=since.vanished,
                uid_validity=selected.uid_validity,
                uid_next=selected.uid_next,
                highest_modseq=selected.highest_modseq,
            )

        return await self._pool.read(mailbox.origin_name, read)

    async def previews(self, messages: Sequence[Message]) -> Mapping[int, str]:
        if not messages:
            return {}
        place = await self._place(messages[0].mailbox_id)
        uids = [message.uid for message in messages]

        async def read(session: Session) -> Mapping[int, str]:
            return await reading.previews_of(session, place.name, uids)

        return await self._pool.read(place.name, read)

    async def watch(self, mailboxes: Sequence[Mailbox]) -> ImapWatch:
        session = await self._pool.open_apart(partial(self._origin.open, is_compressed=False))
        try:
            return await ImapWatch.start(session, mailboxes)
        except BaseException:
            session.close()
            raise

    # ---- places

    async def _place(self, mailbox_id: MailboxId) -> Place:
        return _place(await self._directory.mailbox(self._account_id, mailbox_id))

    async def _by_mailbox(self, messages: Sequence[Message]) -> list[tuple[Mailbox, list[int]]]:
        uids: dict[MailboxId, list[int]] = {}
        for message in messages:
            uids.setdefault(message.mailbox_id, []).append(message.uid)
        return [(await self._directory.mailbox(self._account_id, id_), numbers) for id_, numbers in uids.items()]

    async def _bound(
        self, session: Session, messages: Sequence[Message], source: Mailbox, transfer: Transfer, target: Mailbox
    ) -> Mapping[int, int]:
        """Source UID → target UID; where the server didn't tell, they are sought by Message-ID."""
        if not transfer.unbound:
            return transfer.pairs
        ids = {
            message.uid: message.message_id_header
            for message in messages
            if message.mailbox_id == source.id and message.uid in transfer.unbound
        }
        return await changing.find_copies(session, target.origin_name, ids)


def _search_key(scope: str, value: str) -> SearchKey:
    if scope.startswith("header:"):
        return HeaderMatch(scope.removeprefix("header:"), value)
    return TextMatch(TextField.BODY if scope == "body" else TextField.TEXT, value)


def _place(mailbox: Mailbox) -> Place:
    return Place(mailbox.origin_name, mailbox.uid_validity)


def _parts(found: Mapping[str, object], sections: Sequence[str]) -> Mapping[str, bytes]:
    parts: dict[str, bytes] = {}
    for section in sections:
        content = found.get(section.upper())
        if not isinstance(content, bytes):
            raise PartNotFound
        parts[section] = content
    return parts


def _removed(mailbox_id: MailboxId, uids: Sequence[int]) -> tuple[Removed, ...]:
    return tuple(Removed(Location(mailbox_id, uid)) for uid in uids)


def _arrived(mailbox: Mailbox, row: Row, session: Session) -> Arrived:
    return Arrived(
        mailbox_id=mailbox.id,
        uid=row.uid,
        flags=row.flags,
        received_at_ms=row.received_at_ms,
        size_bytes=row.size_bytes,
        overview=row.overview,
        structure=row.structure,
        modseq=row.modseq,
        origin_id=row.origin_id,
        origin_thread_id=row.origin_thread_id,
        uid_validity=session.selected.uid_validity if session.selected else None,
        problems=row.problems,
        is_shared=row.origin_id is not None and labels.are_mailboxes(session),
    )
