"""A mailbox as POP3 presents it: a list that is fixed when a session begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import orjson
from sqlalchemy import bindparam, select

from app.db.session import Database, Statement
from app.db.tables import MAILBOX, MESSAGE
from app.mail.types import AccountId, MailboxId

_INBOX: Statement = select(MAILBOX.c.id, MAILBOX.c.uid_validity, MAILBOX.c.uidl_eras).where(
    MAILBOX.c.account_id == bindparam("account_id"), MAILBOX.c.path == "INBOX"
)
_MESSAGES: Statement = (
    select(MESSAGE.c.uid, MESSAGE.c.size_bytes, MESSAGE.c.blob)
    .where(MESSAGE.c.account_id == bindparam("account_id"), MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
    .order_by(MESSAGE.c.uid)
)


@dataclass(frozen=True, slots=True)
class DropMessage:
    """`uidl` is unique and stable for as long as the message exists (RFC 1939 §7), even after a restore.

    It consists of the UID and the UIDVALIDITY that INBOX had when the message arrived.
    """

    uid: int
    size_bytes: int
    blob: str
    uidl: str


@dataclass(frozen=True, slots=True)
class MaildropSnapshot:
    """The messages of INBOX, oldest first. `mailbox_id` None: there is no INBOX."""

    mailbox_id: MailboxId | None
    messages: tuple[DropMessage, ...]


async def snapshot(database: Database, account_id: AccountId) -> MaildropSnapshot:
    """Return the current messages of an account's INBOX whose bytes are stored."""
    inbox = await database.row(_INBOX, account_id=account_id)
    if inbox is None:
        return MaildropSnapshot(None, ())
    rows = await database.rows(_MESSAGES, is_long=True, account_id=account_id, mailbox_id=inbox[0])
    uid_validity_of = _uid_validities(inbox[1], inbox[2])
    messages = (DropMessage(uid, size, blob, f"{uid_validity_of(uid):x}.{uid:x}") for uid, size, blob in rows if blob)
    return MaildropSnapshot(MailboxId(inbox[0]), tuple(messages))


def _uid_validities(current: int, eras: str | None) -> Callable[[int], int]:
    """Return a function from UID to the UIDVALIDITY of its arrival. `eras` as in the column `mailbox.uidl_eras`."""
    if not eras:
        return lambda _: current
    ended: list[tuple[int, int]] = orjson.loads(eras)
    return lambda uid: next((validity for uid_next, validity in ended if uid < uid_next), current)
