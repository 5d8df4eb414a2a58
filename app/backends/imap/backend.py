"""MailBackend over IMAP, for one account on an external mail server."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol

from app.backends.imap import (
    appending,
    downloading,
    flagging,
    following,
    labels,
    moving,
    organising,
    removing,
    searching,
)
from app.backends.imap.deltas import arrived, flagged, removed
from app.backends.imap.fatal_messages import arrivals
from app.backends.imap.flagging import StoreCondition
from app.backends.imap.listing import list_mailboxes, with_numbers
from app.backends.imap.origin import Origin
from app.backends.imap.pool import Pool
from app.backends.imap.previews import previews_of
from app.backends.imap.quota import quotas_of
from app.backends.imap.rows import rows
from app.backends.imap.selectable import SelectableMailbox, check_validity
from app.backends.imap.session import ClientSession
from app.backends.imap.watching import ImapWatch
from app.errors import ServerRefused, Unreachable
from app.mail.backend import WHOLE, BackendChanges, ByteRange, OriginMailbox, Quota
from app.mail.confirmed import Confirmed
from app.mail.delta import Arrived, Delta, Known, Placed
from app.mail.types import AccountId, Flags, Mailbox, MailboxId, Message, Role
from app.wire.imap.commands import KnownState
from app.wire.imap.sets import SequenceSet

LISTS_TRIED = 3
"""How often the list is requested if the server closes the connection at some of the mailboxes."""


class MailboxDirectory(Protocol):
    """Finds the account's mailboxes by id. Production code passes a `MailboxReader`."""

    async def mailbox(self, account_id: AccountId, mailbox_id: str) -> Mailbox:
        """Raises MailboxNotFound."""
        ...

    async def mailboxes(self, account_id: AccountId) -> Sequence[Mailbox]: ...


class ImapBackend:
    """Implements `MailBackend`. Opens connections on demand; `close` closes them."""

    def __init__(
        self,
        account_id: AccountId,
        origin: Origin,
        directory: MailboxDirectory,
        pool: Pool | None = None,
        is_followed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._is_followed = is_followed
        self._account_id = account_id
        self._origin = origin
        self._directory = directory
        self._pool = pool or Pool(origin.open)

    @property
    def host(self) -> str:
        return f"{self._origin.login.host.lower()}:{self._origin.login.port}"

    async def close(self) -> None:
        """Close the working connections. A watch closes when its signals are no longer iterated."""
        await self._pool.close()

    async def verify(self) -> None:
        """Connect and log in."""
        async with self._pool.session():
            pass

    async def capabilities(self) -> Sequence[str]:
        async with self._pool.session() as session:
            return sorted(session.capabilities)

    async def quotas(self) -> Sequence[Quota] | None:
        return await self._pool.read(None, quotas_of)

    # ---- reading

    def read_raw(self, message: Message, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        return self.read_part(message, "", span)

    async def read_part(self, message: Message, section: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        selectable = await self._selectable(message)
        async with (
            self._pool.session(selectable.name) as session,
            aclosing(downloading.pieces(session, selectable, message.uid, section, span)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def read_parts(self, message: Message, sections: Sequence[str]) -> Mapping[str, bytes]:
        selectable = await self._selectable(message)
        return await self._pool.read(
            selectable.name, lambda session: downloading.parts(session, selectable, message.uid, sections)
        )

    async def contents(self, messages: Sequence[Message]) -> Mapping[int, bytes]:
        if not messages:
            return {}
        selectable = await self._selectable(messages[0])
        uids = _uids(messages)
        return await self._pool.read(selectable.name, lambda session: downloading.contents(session, selectable, uids))

    async def search(
        self, mailbox: Mailbox, scope: str, value: str, uids: Collection[int] | None = None
    ) -> Collection[int]:
        key = searching.search_key(scope, value, uids)

        async def read(session: ClientSession) -> Collection[int]:
            matches = await searching.search(session, mailbox.origin_name, key)
            check_validity(session, SelectableMailbox.of(mailbox))
            return matches

        return await self._pool.read(mailbox.origin_name, read)

    # ---- changing

    async def append(
        self, mailbox: Mailbox, content: AsyncIterator[bytes], size_bytes: int, flags: Flags, received_at_ms: int | None
    ) -> Confirmed:
        name = mailbox.origin_name
        async with self._pool.session(name) as session:
            uid = await appending.append(session, name, content, size_bytes, flags, received_at_ms)
            stored = [row async for batch in rows(session, name, [uid]) for row in batch]
            if not stored:
                raise ServerRefused("The mail server accepted the message but does not list it")
            return Confirmed(Delta(arrived=tuple(arrived(session, mailbox, row) for row in stored)))

    async def store_flags(
        self,
        messages: Sequence[Message],
        *,
        add: Flags = frozenset(),
        remove: Flags = frozenset(),
        unchanged_since: int | None = None,
    ) -> Confirmed:
        if not messages or not (add or remove):
            return Confirmed(Delta())
        condition = None if unchanged_since is None else StoreCondition(unchanged_since, messages[0].flags)
        delta = Delta()
        for mailbox, group in await self._by_mailbox(messages):
            async with self._pool.session(mailbox.origin_name) as session:
                changed = await flagging.store_flags(
                    session, SelectableMailbox.of(mailbox), _uids(group), add=add, remove=remove, condition=condition
                )
            delta += flagged(mailbox, _uids(group), changed)
        return Confirmed(delta)

    async def move(self, messages: Sequence[Message], target: Mailbox) -> Confirmed:
        delta = Delta()
        for mailbox, group in await self._by_mailbox(messages):
            if mailbox.id != target.id:
                async with self._pool.session(mailbox.origin_name) as session:
                    delta += await moving.move(session, mailbox, group, target)
        return Confirmed(delta)

    async def copy(self, messages: Sequence[Message], target: Mailbox) -> Confirmed:
        delta = Delta()
        for mailbox, group in await self._by_mailbox(messages):
            async with self._pool.session(mailbox.origin_name) as session:
                delta += await moving.copy(session, mailbox, group, target)
        return Confirmed(delta)

    async def expunge(self, messages: Sequence[Message]) -> Confirmed:
        delta = Delta()
        for mailbox, group in await self._by_mailbox(messages):
            async with self._pool.session(mailbox.origin_name) as session:
                known = await self._directory.mailboxes(self._account_id)
                ended = await labels.expunge_via_trash(session, known, mailbox, _uids(group))
                if ended is None:
                    await removing.expunge(session, SelectableMailbox.of(mailbox), _uids(group))
                    ended = Delta(removed=removed(mailbox, _uids(group)))
            delta += ended
        return Confirmed(delta)

    # ---- mailboxes

    async def create_mailbox(self, path: str, role: Role | None = None) -> Confirmed:
        known = await self._directory.mailboxes(self._account_id)
        async with self._pool.session() as session:
            return Confirmed(await organising.create_mailbox(session, known, path, role))

    async def rename_mailbox(self, mailbox: Mailbox, path: str) -> Confirmed:
        known = await self._directory.mailboxes(self._account_id)
        async with self._pool.session() as session:
            return Confirmed(await organising.rename_mailbox(session, known, mailbox, path))

    async def delete_mailbox(self, mailbox: Mailbox) -> Confirmed:
        async with self._pool.session() as session:
            return Confirmed(await organising.delete_mailbox(session, mailbox))

    async def set_subscribed(self, mailbox: Mailbox, is_subscribed: bool) -> Confirmed:
        async with self._pool.session() as session:
            return Confirmed(await organising.set_subscribed(session, mailbox, is_subscribed))

    # ---- following

    async def list_mailboxes(self) -> Sequence[OriginMailbox]:
        async def read(session: ClientSession) -> Sequence[OriginMailbox]:
            await session.leave_mailbox()  # a selected mailbox reports the counts that the session has seen
            return await with_numbers(session, await list_mailboxes(session, with_ids=True))

        for _ in range(LISTS_TRIED - 1):
            try:
                return await self._pool.read(None, read)
            except Unreachable:
                if not self._origin.avoided.suspects:
                    raise
        return await self._pool.read(None, read)

    async def newest(self, mailbox: Mailbox, count: int, below_uid: int | None = None) -> Sequence[Arrived]:
        name = mailbox.origin_name
        within = None if below_uid is None else SequenceSet.of_ranges([(1, below_uid - 1)] if below_uid > 1 else [])

        async def read(session: ClientSession) -> Sequence[int]:
            return (await searching.uids_of(session, name, within))[::-1][:count]  # newest first

        uids = await self._pool.read(name, read)
        return [message async for batch in self.fetch(mailbox, uids) for message in batch]

    async def fetch(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncIterator[Sequence[Arrived]]:
        async with aclosing(arrivals(self._pool, mailbox, uids)) as batches:
            async for batch in batches:
                yield batch

    async def placements(self, mailbox: Mailbox, uids: Sequence[int]) -> Sequence[Placed]:
        async def read(session: ClientSession) -> Sequence[Placed]:
            return await labels.placements(session, mailbox, uids) if labels.are_mailboxes(session) else ()

        return await self._pool.read(mailbox.origin_name, read)

    async def scan(self, mailbox: Mailbox, *, is_anew: bool = False) -> Mapping[int, Known]:
        name = mailbox.origin_name

        async def read(session: ClientSession) -> Mapping[int, Known]:
            return await following.all_flags(session, name)

        if not is_anew:
            return await self._pool.read(name, read)
        async with self._pool.session(name, is_new=True) as session:
            return await read(session)

    async def uids(self, mailbox: Mailbox) -> Sequence[int]:
        name = mailbox.origin_name

        async def read(session: ClientSession) -> Sequence[int]:
            return array("I", await searching.uids_of(session, name))

        return await self._pool.read(name, read)

    async def present(self, mailbox: Mailbox, uids: Collection[int]) -> Collection[int]:
        name = mailbox.origin_name

        async def read(session: ClientSession) -> Collection[int]:
            # a search selects the mailbox again: Courier keeps an open mailbox visible after it was renamed or deleted
            present = await searching.uids_of(session, name, SequenceSet.of(uids))
            is_known = session.selected is not None and session.selected.uid_validity == mailbox.uid_validity
            return present if is_known else ()

        return await self._pool.read(name, read)

    async def changes(self, mailbox: Mailbox) -> BackendChanges:
        known = KnownState(mailbox.uid_validity, mailbox.highest_modseq)

        async def read(session: ClientSession) -> BackendChanges:
            changes = await following.changes_since(session, mailbox.origin_name, known)
            selected = changes.selected
            return BackendChanges(
                flags=changes.flags,
                vanished=changes.vanished,
                uid_validity=selected.uid_validity,
                uid_next=selected.uid_next,
                highest_modseq=selected.highest_modseq,
            )

        return await self._pool.read(mailbox.origin_name, read)

    async def previews(self, messages: Sequence[Message]) -> Mapping[int, str]:
        if not messages:
            return {}
        selectable = await self._selectable(messages[0])
        uids = _uids(messages)
        return await self._pool.read(selectable.name, lambda session: previews_of(session, selectable.name, uids))

    async def watch(self, mailboxes: Sequence[Mailbox]) -> ImapWatch:
        open_session = partial(self._origin.open, is_compressed=False)
        session = await self._pool.open_apart(open_session)
        try:
            return await ImapWatch.start(
                session,
                mailboxes,
                is_followed=self._is_followed,
                open_second=partial(self._pool.open_spare, open_session),
            )
        except BaseException:
            session.close()
            raise

    # ---- mailboxes of messages

    async def _selectable(self, message: Message) -> SelectableMailbox:
        return SelectableMailbox.of(await self._directory.mailbox(self._account_id, message.mailbox_id))

    async def _by_mailbox(self, messages: Sequence[Message]) -> list[tuple[Mailbox, list[Message]]]:
        by_id: dict[MailboxId, list[Message]] = {}
        for message in messages:
            by_id.setdefault(message.mailbox_id, []).append(message)
        return [(await self._directory.mailbox(self._account_id, id_), group) for id_, group in by_id.items()]


def _uids(messages: Sequence[Message]) -> list[int]:
    return [message.uid for message in messages]
