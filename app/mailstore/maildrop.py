"""A mailbox as POP3 sees it: a list that is fixed when a session begins."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, select

from app.db.session import Database, Statement
from app.db.tables import MAILBOX, MESSAGE
from app.mail.types import AccountId, MailboxId

_INBOX: Statement = select(MAILBOX.c.id, MAILBOX.c.uid_validity).where(
    MAILBOX.c.account_id == bindparam("account_id"), MAILBOX.c.path == "INBOX"
)
_MESSAGES: Statement = (
    select(MESSAGE.c.uid, MESSAGE.c.size_bytes, MESSAGE.c.blob)
    .where(MESSAGE.c.account_id == bindparam("account_id"), MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
    .order_by(MESSAGE.c.uid)
)


@dataclass(frozen=True, slots=True)
class DropMessage:
    """`uidl` is unique and stable for as long as the message exists (RFC 1939 §7): from UIDVALIDITY and UID."""

    uid: int
    size_bytes: int
    blob: str
    uidl: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The messages of INBOX, oldest first. `mailbox_id` None: there is no INBOX, and nothing in it."""

    mailbox_id: MailboxId | None
    messages: tuple[DropMessage, ...]


async def snapshot(database: Database, account_id: AccountId) -> Snapshot:
    """What is in an account's INBOX now, as far as its bytes are here."""
    inbox = await database.row(_INBOX, account_id=account_id)
    if inbox is None:
        return Snapshot(None, ())
    rows = await database.rows(_MESSAGES, is_long=True, account_id=account_id, mailbox_id=inbox[0])
    messages = (DropMessage(uid, size, blob, f"{inbox[1]:x}.{uid:x}") for uid, size, blob in rows if blob)
    return Snapshot(MailboxId(inbox[0]), tuple(messages))
