"""Writes the index: one row per message. The rows mirror a mail server, or are the mailbox of an embedded account.

`reader.MailReader` reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy import bindparam, select, update

from app import faults
from app.cluster.bus import Bus
from app.db.session import Database, Statement, Transaction, value_of
from app.db.tables import ACCOUNT, LEASE, MESSAGE
from app.errors import AccountNotFound, Conflict
from app.mail.confirmed import Applied, Confirmed
from app.mail.delta import Delta, Location, Removed
from app.mail.types import AccountId, AccountKind, MailboxId, Position
from app.mailstore.changes import write_delta
from app.mailstore.reading.columns import ACCOUNT_ID
from app.mailstore.reading.mailboxes import MailboxReader

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
"""A shared lock: no other worker takes the lease until the transaction that relies on it has ended."""

_BEYOND: Statement = (
    select(MESSAGE.c.uid)
    .where(MESSAGE.c.account_id == ACCOUNT_ID, MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
    .order_by(MESSAGE.c.uid.desc())
    .offset(bindparam("kept"))
)

ENDED_AT_ONCE = 20_000
"""The most messages that are removed with their mailbox in one transaction."""
REMOVED_AT_ONCE = 1_000
SHORT_FACTS = 4
"""Up to this many facts are written without another thread."""

Decide = Callable[[Transaction], Awaitable[Delta]]
Conclude = Callable[[Transaction, Applied], Awaitable[None]]
"""Writes further rows in the same transaction once a Delta is applied, such as the answer to a request."""


class Index:
    """Changes the mailboxes and messages of all accounts: each change is one transaction with its events."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def apply(
        self, account_id: AccountId, delta: Delta, *, fence: int | None = None, is_durable: bool = False
    ) -> Applied:
        """Write a change and its events in one transaction, then wake the subscribers. Safe to repeat.

        If it ends a mailbox with more than `ENDED_AT_ONCE` messages, the others are removed before, in further
        transactions. `fence` is the epoch of the lease of a watching worker: Conflict if another worker holds the
        lease. Raises AccountNotFound.
        """

        for mailbox_id in await self._ending(account_id, delta):
            await self.shrink(account_id, mailbox_id, fence=fence)

        async def decide(_: Transaction) -> Delta:
            return delta

        return await self.change(account_id, decide, fence=fence, is_durable=is_durable, is_short=_is_short(delta))

    async def confirm(self, account_id: AccountId, confirmed: Confirmed, *, is_durable: bool = False) -> Applied:
        """Write what the mail server confirmed, unless its backend has written it. Raises AccountNotFound."""
        if confirmed.written is not None:
            return confirmed.written
        return await self.apply(account_id, confirmed.delta, is_durable=is_durable)

    async def shrink(self, account_id: AccountId, mailbox_id: MailboxId, *, fence: int | None = None) -> None:
        """Remove the oldest messages of a mailbox that is about to be removed, in short transactions.

        `ENDED_AT_ONCE` messages remain, which are removed with the mailbox.
        """
        values = {"account_id": account_id, "mailbox_id": mailbox_id, "kept": ENDED_AT_ONCE}
        uids = [uid for (uid,) in await self._database.rows(_BEYOND, is_long=True, **values)]
        for start in range(0, len(uids), REMOVED_AT_ONCE):
            some = uids[start : start + REMOVED_AT_ONCE]
            delta = Delta(removed=tuple(Removed(Location(mailbox_id, uid)) for uid in some))
            await self.apply(account_id, delta, fence=fence)

    async def _ending(self, account_id: AccountId, delta: Delta) -> list[MailboxId]:
        """Return the mailboxes that lose all their messages."""
        if not (delta.mailboxes_deleted or delta.mailboxes_reset):
            return []
        validities = {
            mailbox.id: mailbox.uid_validity for mailbox in await MailboxReader(self._database).mailboxes(account_id)
        }
        deleted = [
            mailbox_deleted.mailbox_id
            for mailbox_deleted in delta.mailboxes_deleted
            if mailbox_deleted.mailbox_id in validities
        ]
        reset = [
            mailbox.mailbox_id
            for mailbox in delta.mailboxes_reset
            if validities.get(mailbox.mailbox_id, mailbox.uid_validity) != mailbox.uid_validity
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
        """Read under the account's lock, decide, and write the decided Delta. `decide` awaits only its transaction.

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
        """Like `change`, within a larger transaction, whose `turn` should be the account's id.

        The account's subscribers are woken when that transaction is committed.
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


async def lock_account(transaction: Transaction, account_id: AccountId) -> tuple[Position, str]:
    """Lock an account's rows until the transaction ends. Return its last position and its kind.

    Raises AccountNotFound. Every transaction that writes rows of an account takes this lock first. Two transactions
    that lock rows in different orders would deadlock.
    """
    row = await transaction.row(_LOCK, account_id=account_id)
    if row is None:
        raise AccountNotFound
    last_seq, last_event_ms, kind = row
    return Position(last_seq, last_event_ms), kind


def _is_short(delta: Delta) -> bool:
    """Whether it changes few rows. Deleting or resetting a mailbox removes any number of messages.

    Adding or removing a text is long too, because it changes an index entry for each trigram.
    """
    are_long = delta.mailboxes_reset or delta.mailboxes_deleted or delta.texted or delta.removed
    return delta.facts <= SHORT_FACTS and not are_long


async def _check_fence(transaction: Transaction, account_id: AccountId, fence: int | None) -> None:
    if fence is None:
        return
    if value_of(await transaction.row(_EPOCH, account_id=account_id)) != fence:
        raise Conflict("Another worker holds this account now")
