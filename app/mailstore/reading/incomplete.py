"""What could not be read from an account's mail server: mailboxes, and messages whose rows give the reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import BindParameter, bindparam, func, select, text

from app.db.session import Database, Statement, is_one_of, json_list
from app.db.tables import MAILBOX, MESSAGE, UNINDEXED
from app.mail.searchable import TextState
from app.mail.types import AccountId, MailboxId, MessageId
from app.mailstore.reading.columns import OF_ACCOUNT

UNREAD_LIMIT = 10_000
"""Incomplete rows of one account that are read at once."""
NAMED_MESSAGES = 100
"""Messages of one account that are named; all are counted."""

_IS_UNREAD = (text(UNINDEXED), MESSAGE.c.text_state == int(TextState.UNREAD))
"""The first condition is literal, so that both databases use the partial index."""
_ACCOUNTS: BindParameter[str] = bindparam("account_ids")
_TROUBLED: Statement = (
    select(MAILBOX.c.account_id, MAILBOX.c.id, MAILBOX.c.path, MAILBOX.c.problem)
    .where(is_one_of(MAILBOX.c.account_id, _ACCOUNTS), MAILBOX.c.problem.is_not(None))
    .order_by(MAILBOX.c.path)
)
_COUNTS: Statement = (
    select(MESSAGE.c.account_id, MESSAGE.c.mailbox_id, MAILBOX.c.path, func.count())
    .join(MAILBOX, (MAILBOX.c.account_id == MESSAGE.c.account_id) & (MAILBOX.c.id == MESSAGE.c.mailbox_id))
    .where(is_one_of(MESSAGE.c.account_id, _ACCOUNTS), *_IS_UNREAD)
    .group_by(MESSAGE.c.account_id, MESSAGE.c.mailbox_id, MAILBOX.c.path)
)
_NAMED: Statement = (
    select(MESSAGE.c.mailbox_id, MESSAGE.c.id, MESSAGE.c.uid)
    .where(OF_ACCOUNT, *_IS_UNREAD)
    .order_by(MESSAGE.c.received_at_ms.desc(), MESSAGE.c.id.desc())
    .limit(bindparam("limit"))
)


@dataclass(slots=True)
class IncompleteMailbox:
    """A mailbox that could not be read completely: `problem` is about the mailbox, `messages` counts messages.

    `message_ids` names the newest of those messages.
    """

    id: MailboxId
    path: str
    problem: str | None = None
    messages: int = 0
    message_ids: tuple[MessageId, ...] = ()

    @property
    def name(self) -> str:
        """The last level of the path."""
        return self.path.rpartition("/")[2]

    @property
    def count(self) -> int:
        """The number of unread messages, plus one if the mailbox has a problem."""
        return self.messages + (self.problem is not None)


@dataclass(frozen=True, slots=True)
class UnreadMessage:
    """The row of a message that could not be read."""

    mailbox_id: MailboxId
    uid: int


class IncompleteReader:
    """Reads what is incomplete."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, account_ids: Collection[AccountId]) -> dict[AccountId, list[IncompleteMailbox]]:
        """Return the incomplete mailboxes of those accounts that have some, by path."""
        ids = json_list(sorted(account_ids))
        by_account: dict[AccountId, dict[str, IncompleteMailbox]] = {}
        for account_id, id_, path, problem in await self._database.rows(_TROUBLED, account_ids=ids):
            by_account.setdefault(AccountId(account_id), {})[id_] = IncompleteMailbox(MailboxId(id_), path, problem)
        counted = await self._database.rows(_COUNTS, account_ids=ids)
        for account_id, id_, path, count in counted:
            mailboxes = by_account.setdefault(AccountId(account_id), {})
            mailboxes.setdefault(id_, IncompleteMailbox(MailboxId(id_), path)).messages = count
        for account_id in {AccountId(item[0]) for item in counted}:
            await self._name(account_id, by_account[account_id])
        return {id_: sorted(incomplete.values(), key=lambda item: item.path) for id_, incomplete in by_account.items()}

    async def _name(self, account_id: AccountId, mailboxes: dict[str, IncompleteMailbox]) -> None:
        for id_, message_id, _ in await self._database.rows(_NAMED, account_id=account_id, limit=NAMED_MESSAGES):
            if id_ in mailboxes:
                mailboxes[id_].message_ids += (MessageId(message_id),)

    async def messages(self, account_id: AccountId, limit: int = UNREAD_LIMIT) -> Sequence[UnreadMessage]:
        """Return the newest rows of an account's messages that could not be read."""
        rows = await self._database.rows(_NAMED, account_id=account_id, limit=limit)
        return [UnreadMessage(MailboxId(mailbox_id), uid) for mailbox_id, _, uid in rows]
