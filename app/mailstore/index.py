"""The index: one row a message, two writers (a mirror of the origin, or the mailbox itself), one way to change it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from sqlalchemy import bindparam, select, update

from app import faults
from app.cluster.bus import Bus
from app.db.session import Database, Statement, Transaction
from app.db.tables import ACCOUNT, LEASE, MESSAGE
from app.errors import AccountNotFound, Conflict
from app.mail.confirmed import Applied, Confirmed
from app.mail.delta import Delta, Known, Location, Removed
from app.mail.filter import Filter
from app.mail.types import AccountId, AccountKind, Detail, Mailbox, MailboxId, Message, MessageId, Position
from app.mailstore.changes import write_delta
from app.mailstore.reading import lists, mailboxes, messages, mirrored
from app.mailstore.reading.columns import ACCOUNT_ID
from app.mailstore.reading.lists import NEWEST_FIRST, Anchor, Listed, Sort
from app.mailstore.reading.mailboxes import Standing
from app.mailstore.reading.mirrored import Pair, Proof

_LOCK: Statement = (
    update(ACCOUNT)
    .where(ACCOUNT.c.id == ACCOUNT_ID)
    .values(last_seq=ACCOUNT.c.last_seq)
    .returning(ACCOUNT.c.last_seq, ACCOUNT.c.last_event_ms, ACCOUNT.c.kind)
)
_ADVANCE: Statement = (
    update(ACCOUNT)
    .where(ACCOUNT.c.id == ACCOUNT_ID)
    .values(last_seq=bindparam("seq"), last_event_ms=bindparam("at_ms"))
)
_EPOCH: Statement = select(LEASE.c.epoch).where(LEASE.c.account_id == ACCOUNT_ID).with_for_update(read=True)
"""Shared: no other worker takes the lease until the transaction that relies on it has ended."""

_BEYOND: Statement = (
    select(MESSAGE.c.uid)
    .where(MESSAGE.c.account_id == ACCOUNT_ID, MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
    .order_by(MESSAGE.c.uid.desc())
    .offset(bindparam("kept"))
)

ENDED_AT_ONCE = 20_000
"""Messages that go with their mailbox in one transaction."""
REMOVED_AT_ONCE = 1_000
SHORT_FACTS = 4
"""Up to so many facts are written without another thread."""

Decide = Callable[[Transaction], Awaitable[Delta]]
Conclude = Callable[[Transaction, Applied], Awaitable[None]]
"""What is written in the same transaction once it is known what came of a Delta: the answer to a request, say."""


class Index:
    """Every account's mailboxes and messages. Each read is one of `app.mailstore.reading`, where it is told more of."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    # ---- changing

    async def apply(
        self, account_id: AccountId, delta: Delta, *, fence: int | None = None, is_durable: bool = False
    ) -> Applied:
        """Write what changed, with its events, in one transaction; then wake those who follow.

        A mailbox that ends with more than `ENDED_AT_ONCE` messages loses the others before, in further transactions.
        Safe to repeat. `fence` is the epoch of the lease under which a watcher speaks: Conflict when another holds it.
        Raises AccountNotFound.
        """

        for mailbox_id in await self._ending(account_id, delta):
            await self.shrink(account_id, mailbox_id, fence=fence)

        async def decide(_: Transaction) -> Delta:
            return delta

        return await self.change(account_id, decide, fence=fence, is_durable=is_durable, is_short=_is_short(delta))

    async def confirm(self, account_id: AccountId, confirmed: Confirmed, *, is_durable: bool = False) -> Applied:
        """Write what the origin confirmed, unless its backend has written it. Raises AccountNotFound."""
        if confirmed.written is not None:
            return confirmed.written
        return await self.apply(account_id, confirmed.delta, is_durable=is_durable)

    async def shrink(self, account_id: AccountId, mailbox_id: MailboxId, *, fence: int | None = None) -> None:
        """Remove the oldest messages of a mailbox that is about to end, a few a transaction: no writer waits long.

        `ENDED_AT_ONCE` are left, which go with the mailbox.
        """
        values = {"account_id": account_id, "mailbox_id": mailbox_id, "kept": ENDED_AT_ONCE}
        uids = [row[0] for row in await self._database.rows(_BEYOND, is_long=True, **values)]
        for start in range(0, len(uids), REMOVED_AT_ONCE):
            some = uids[start : start + REMOVED_AT_ONCE]
            delta = Delta(removed=tuple(Removed(Location(mailbox_id, uid)) for uid in some))
            await self.apply(account_id, delta, fence=fence)

    async def _ending(self, account_id: AccountId, delta: Delta) -> list[MailboxId]:
        """The mailboxes whose messages all go."""
        if not (delta.mailboxes_deleted or delta.mailboxes_reset):
            return []
        validities = {one.id: one.uid_validity for one in await self.mailboxes(account_id)}
        deleted = [one.mailbox_id for one in delta.mailboxes_deleted if one.mailbox_id in validities]
        reset = [
            one.mailbox_id
            for one in delta.mailboxes_reset
            if validities.get(one.mailbox_id, one.uid_validity) != one.uid_validity
        ]
        return [*deleted, *reset]

    async def change(
        self,
        account_id: AccountId,
        decide: Decide,
        *,
        fence: int | None = None,
        is_durable: bool = True,
        is_short: bool = False,
        conclude: Conclude | None = None,
    ) -> Applied:
        """Read under the account's lock, decide, and write what was decided. `decide` awaits only its transaction.

        `is_short`: see `Database.write`.
        """

        async def work(transaction: Transaction) -> Applied:
            applied = await self.change_in(transaction, account_id, decide, fence=fence)
            if conclude is not None:
                await conclude(transaction, applied)
            return applied

        applied = await self._database.write(work, is_durable=is_durable, is_short=is_short, turn=account_id)
        faults.point("index.committed")
        return applied

    async def change_in(
        self, transaction: Transaction, account_id: AccountId, decide: Decide, *, fence: int | None = None
    ) -> Applied:
        """The same as a part of a larger transaction, whose `turn` should be the account's id.

        The account's followers are woken when that transaction is committed.
        """
        before, kind = await lock_account(transaction, account_id)
        await _check_fence(transaction, account_id, fence)
        delta = await decide(transaction)
        is_origin = AccountKind(kind).is_kept_here
        written = await write_delta(transaction, account_id, before, delta, is_origin=is_origin)
        if written.seq != before.seq:
            await transaction.execute(_ADVANCE, account_id=account_id, seq=written.seq, at_ms=written.at_ms)
            transaction.after_commit(partial(self._bus.poke, account_id, written.seq))
        faults.point("index.before_commit")
        return written

    # ---- reading

    async def mailboxes(self, account_id: AccountId) -> list[Mailbox]:
        """All mailboxes of an account, by path."""
        return await mailboxes.mailboxes(self._database, account_id)

    async def mailbox(self, account_id: AccountId, mailbox_id: str) -> Mailbox:
        """Raises MailboxNotFound."""
        return await mailboxes.mailbox(self._database, account_id, mailbox_id)

    async def mailbox_named(self, account_id: AccountId, path: str) -> Mailbox | None:
        """The mailbox with this path; None where there is none."""
        return await mailboxes.mailbox_named(self._database, account_id, path)

    async def standing(self, account_id: AccountId, mailbox_id: str | None = None) -> Standing:
        """Raises AccountNotFound."""
        return await mailboxes.standing(self._database, account_id, mailbox_id)

    async def find(self, account_id: AccountId, ids: Sequence[str]) -> list[Message]:
        """Those that exist, in the order asked for."""
        return await messages.find(self._database, account_id, ids)

    async def message(self, account_id: AccountId, message_id: str) -> Message:
        """Raises MessageNotFound."""
        return await messages.message(self._database, account_id, message_id)

    async def detail(self, account_id: AccountId, message_id: MessageId) -> Detail:
        """What is kept of one message beside its row; MessageNotFound."""
        return await messages.detail(self._database, account_id, message_id)

    async def locate(self, account_id: AccountId, mailbox_id: MailboxId, uids: Collection[int]) -> list[Message]:
        """Messages of a mailbox by UID, in no order."""
        return await messages.locate(self._database, account_id, mailbox_id, uids)

    async def at(self, account_id: AccountId, location: Location) -> Message:
        """The message at a location; MessageNotFound."""
        return await messages.at(self._database, account_id, location)

    async def places(self, message: Message) -> list[tuple[Location, int]]:
        """Where a message is, its first place first, each with the MODSEQ known of it there."""
        return await messages.places(self._database, message)

    async def known_origins(self, account_id: AccountId, origin_ids: Collection[str]) -> set[str]:
        """Those of the origin's ids that messages here have."""
        return await mirrored.known_origins(self._database, account_id, origin_ids)

    async def ids_at(self, account_id: AccountId, mailbox_id: MailboxId, uids: Collection[int]) -> list[MessageId]:
        """Ids of a mailbox's messages by UID, in no order."""
        return await messages.ids_at(self._database, account_id, mailbox_id, uids)

    async def threads(
        self, account_id: AccountId, thread_ids: Collection[str]
    ) -> dict[str, list[tuple[MessageId, list[MailboxId]]]]:
        """The messages of each thread, with their mailboxes, oldest first."""
        return await messages.threads(self._database, account_id, thread_ids)

    async def with_header(self, account_id: AccountId, message_id_header: str) -> list[Message]:
        """Messages with this Message-ID, wherever they are."""
        return await messages.with_header(self._database, account_id, message_id_header)

    async def with_headers(self, account_id: AccountId, message_id_headers: Collection[str]) -> list[Message]:
        """Messages with one of these Message-IDs, wherever they are, in no order."""
        return await mirrored.with_headers(self._database, account_id, message_id_headers)

    async def without_header(self, account_id: AccountId, times_ms: Collection[int]) -> list[Message]:
        """Messages without a Message-ID whose INTERNALDATE is one of these, wherever they are, in no order."""
        return await mirrored.without_header(self._database, account_id, times_ms)

    async def with_origin_ids(self, account_id: AccountId, origin_ids: Collection[str]) -> list[tuple[str, Message]]:
        """Messages that the origin knows by one of these ids, each with its id, in no order."""
        return await mirrored.with_origin_ids(self._database, account_id, origin_ids)

    async def pairs(self, account_id: AccountId, ids: Collection[MessageId]) -> list[Pair]:
        """Each of the messages with every other one that may be a copy of it, in no order."""
        return await mirrored.pairs(self._database, account_id, ids)

    async def arrived_since(self, account_id: AccountId, ids: Collection[MessageId], since_ms: int) -> set[MessageId]:
        """Those of the messages that were told as new since then."""
        return await mirrored.arrived_since(self._database, account_id, ids, since_ms)

    async def proofs(self, account_id: AccountId, ids: Collection[MessageId]) -> Mapping[MessageId, Proof]:
        """What is kept of each message that tells it from others like it."""
        return await mirrored.proofs(self._database, account_id, ids)

    async def known(self, account_id: AccountId, mailbox_id: MailboxId) -> Mapping[int, Known]:
        """UID → flags of everything the index has of a mailbox, read a piece at a time."""
        return await mirrored.known(self._database, account_id, mailbox_id)

    async def without_preview(self, account_id: AccountId, mailbox_id: MailboxId, limit: int) -> list[Message]:
        """Messages whose preview has not been read yet, newest first."""
        return await mirrored.without_preview(self._database, account_id, mailbox_id, limit)

    async def first_page(
        self, account_id: AccountId, mailbox_id: str, limit: int, *, has_placements: bool | None = False
    ) -> list[Listed]:
        """The newest messages of a mailbox: what a list asks for most, in one prepared query.

        `has_placements` (see Standing): in two, as messages may have it for a further place.
        """
        return await lists.first_page(self._database, account_id, mailbox_id, limit, has_placements=has_placements)

    async def search(
        self,
        account_id: AccountId,
        tree: Filter,
        *,
        sort: Sort = NEWEST_FIRST,
        limit: int,
        after: Anchor | None = None,
        before: Anchor | None = None,
    ) -> list[Listed]:
        """Up to `limit` messages that match, sorted, after an anchor; or, with `before`, those next to it before it.

        Ties go by highest UID, then id. The tree holds no Text leaf any more.
        """
        return await lists.search(self._database, account_id, tree, sort=sort, limit=limit, after=after, before=before)

    async def count(self, account_id: AccountId, tree: Filter) -> int:
        """How many match."""
        return await lists.count(self._database, account_id, tree)

    async def matching_ids(self, account_id: AccountId, tree: Filter, limit: int) -> list[MessageId]:
        """Ids of what matches, newest first."""
        return await lists.matching_ids(self._database, account_id, tree, limit)

    async def blobs_in_use(self, names: Sequence[str]) -> set[str]:
        """Those of the blobs that a message or a submission still needs."""
        return await messages.blobs_in_use(self._database, names)


async def lock_account(transaction: Transaction, account_id: AccountId) -> tuple[Position, str]:
    """Lock an account's rows until the transaction ends: its last position and its kind. Raises AccountNotFound.

    Every transaction that writes rows of one account takes this lock first. Two that took rows in another order
    would wait for each other.
    """
    row = await transaction.row(_LOCK, account_id=account_id)
    if row is None:
        raise AccountNotFound
    return Position(row[0], row[1]), row[2]


def _is_short(delta: Delta) -> bool:
    """Whether it changes a few rows: a mailbox that ends or begins anew takes any number of messages along.

    A text that comes or goes is long by itself: each of its trigrams is a change.
    """
    are_long = delta.mailboxes_reset or delta.mailboxes_deleted or delta.texted or delta.removed
    return delta.facts <= SHORT_FACTS and not are_long


async def _check_fence(transaction: Transaction, account_id: AccountId, fence: int | None) -> None:
    if fence is None:
        return
    row = await transaction.row(_EPOCH, account_id=account_id)
    if row is None or row[0] != fence:
        raise Conflict("Another worker holds this account now")
