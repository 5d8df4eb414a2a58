"""The ledger of a POP3 account: the messages that its server has or had, and the message rows that they became.

Each change of it is in the same transaction as its change of mail. A message is therefore stored once, however often
it is listed, and none is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import BindParameter, and_, bindparam, delete, insert, select

from app.cluster.bus import Bus
from app.db.session import Database, Row, Statement, Transaction
from app.db.tables import MESSAGE, POP3_MESSAGE
from app.mail.confirmed import Applied
from app.mail.delta import Arrived, Delta, Location
from app.mail.types import AccountId, MailboxId
from app.mailstore.index import Index


class Pop3State(StrEnum):
    """The state of a message of the server."""

    LISTED = "listed"
    """Found by the first list; it is added without an event."""
    SEEN = "seen"
    """Only its header is known; its content has not been downloaded yet."""
    STORED = "stored"
    KEPT = "kept"
    """Deleted permanently in Postgate, and left on the server."""
    DELETE_PENDING = "delete_pending"
    """To be deleted on the server, or requested to be: only a list without it confirms that."""
    DELETED = "deleted"
    """Deleted on the server by Postgate. If it comes back, it is deleted again and not shown."""
    GONE = "gone"
    """Removed from the server by another client; Postgate's copy stays."""


class Key(NamedTuple):
    """Identifies a message of the server. Without UIDL, `uidl` is the hash of its header."""

    uidl: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Line:
    """`place` is the location of its message; None if it was never shown, or was deleted permanently."""

    key: Key
    size_bytes: int
    state: Pop3State
    header_hash: str | None = None
    content_hash: str | None = None
    message_id: str | None = None
    stored_at_ms: int = 0
    changed_at_ms: int = 0
    place: Location | None = None

    @property
    def is_deleted_here(self) -> bool:
        return self.message_id is not None and self.place is None


_ACCOUNT: BindParameter[str] = bindparam("account_id")
_ROWS: Statement = (
    select(
        POP3_MESSAGE.c.uidl,
        POP3_MESSAGE.c.ordinal,
        POP3_MESSAGE.c.size_bytes,
        POP3_MESSAGE.c.state,
        POP3_MESSAGE.c.header_hash,
        POP3_MESSAGE.c.content_hash,
        POP3_MESSAGE.c.message_id,
        POP3_MESSAGE.c.stored_at_ms,
        POP3_MESSAGE.c.changed_at_ms,
        MESSAGE.c.mailbox_id,
        MESSAGE.c.uid,
    )
    .outerjoin(
        MESSAGE, and_(MESSAGE.c.account_id == POP3_MESSAGE.c.account_id, MESSAGE.c.id == POP3_MESSAGE.c.message_id)
    )
    .where(POP3_MESSAGE.c.account_id == _ACCOUNT)
)
_DROP: Statement = delete(POP3_MESSAGE).where(
    POP3_MESSAGE.c.account_id == _ACCOUNT,
    POP3_MESSAGE.c.uidl == bindparam("old_uidl"),
    POP3_MESSAGE.c.ordinal == bindparam("old_ordinal"),
)
_ADD: Statement = insert(POP3_MESSAGE)


class Pop3Ledger:
    """One account's ledger, written under the lease `epoch`."""

    def __init__(self, database: Database, index: Index, bus: Bus, account_id: AccountId, epoch: int) -> None:
        self._database = database
        self._index = index
        self._bus = bus
        self._account_id = account_id
        self._epoch = epoch

    async def rows(self) -> dict[Key, Line]:
        """Return all lines."""
        rows = await self._database.rows(_ROWS, is_long=True, account_id=self._account_id)
        return {line.key: line for line in map(_line, rows)}

    async def write(
        self,
        put: Sequence[Line] = (),
        drop: Sequence[Key] = (),
        delta: Delta | None = None,
        arrived: Sequence[tuple[Line, Arrived]] = (),
    ) -> Applied:
        """Write lines in place of those with the same key, together with their changes of mail.

        On disk when it returns. The lines of `arrived` get the ids of their messages. Raises Conflict when another
        worker holds the account, AccountNotFound.
        """
        facts = (delta or Delta()) + Delta(arrived=tuple(arrival for _, arrival in arrived))

        async def decide(_: Transaction) -> Delta:
            return facts

        async def work(transaction: Transaction) -> Applied:
            applied = await self._index.change_in(transaction, self._account_id, decide, fence=self._epoch)
            ids = {id(arrival): message_id for arrival, message_id in applied.arrivals}
            rows = [self._values(line, ids.get(id(arrival), line.message_id)) for line, arrival in arrived]
            rows += [self._values(line, line.message_id) for line in put]
            await self._replace(
                [*drop, *(line.key for line, _ in arrived), *(line.key for line in put)], rows, transaction
            )
            return applied

        return await self._database.write(work, turn=self._account_id)

    async def _replace(self, old: Sequence[Key], rows: Sequence[dict[str, object]], transaction: Transaction) -> None:
        keys = [{"account_id": self._account_id, "old_uidl": key.uidl, "old_ordinal": key.ordinal} for key in old]
        await transaction.execute_many(_DROP, keys)
        await transaction.execute_many(_ADD, rows)

    def _values(self, line: Line, message_id: str | None) -> dict[str, object]:
        return {
            "account_id": self._account_id,
            "uidl": line.key.uidl,
            "ordinal": line.key.ordinal,
            "size_bytes": line.size_bytes,
            "header_hash": line.header_hash,
            "content_hash": line.content_hash,
            "message_id": message_id,
            "state": line.state.value,
            "stored_at_ms": line.stored_at_ms,
            "changed_at_ms": line.changed_at_ms,
        }


def _line(row: Row) -> Line:
    uidl, ordinal, size, state, header_hash, content_hash, message_id, stored_at, changed_at, mailbox_id, uid = row
    place = None if mailbox_id is None else Location(MailboxId(mailbox_id), uid)
    return Line(
        Key(uidl, ordinal), size, Pop3State(state), header_hash, content_hash, message_id, stored_at, changed_at, place
    )
