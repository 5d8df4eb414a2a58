"""The mailboxes of embedded accounts: create, rename, delete, and subscribe by name.

A name can exist without its mailbox in two ways: as the parent of others it remains but holds no mail, and as a
subscription it is stored without a mailbox (RFC 9051 §6.3.5, §6.3.7).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import BindParameter, bindparam, delete, func, select

from app.db.row_types import RowType
from app.db.session import Database, Statement, Transaction, in_code_order, insert_or, is_one_of, json_list, value_of
from app.db.tables import MAILBOX, MESSAGE, SUBSCRIBED_NAME
from app.errors import AlreadyExists, Conflict, InvalidRequest, MailboxNotFound
from app.mail.confirmed import Applied
from app.mail.delta import (
    Delta,
    Location,
    MailboxCounted,
    MailboxDeleted,
    MailboxFound,
    MailboxRenamed,
    MailboxSet,
    Removed,
)
from app.mail.types import AccountId, MailboxId, Role
from app.mailstore.index import ENDED_AT_ONCE, Conclude, Decide, Index
from app.mailstore.reading.mailboxes import MailboxReader

DELIMITER = "/"
PATH_LIMIT = 500
"""The most characters of a mailbox's path."""
DEPTH_LIMIT = 20
NAMES_LIMIT = 1_000
"""The most subscribed names without a mailbox in an account."""

FIRST_MAILBOXES = (
    ("INBOX", Role.INBOX),
    ("Drafts", Role.DRAFTS),
    ("Sent", Role.SENT),
    ("Archive", Role.ARCHIVE),
    ("Junk", Role.JUNK),
    ("Trash", Role.TRASH),
)
"""The mailboxes of a new embedded account."""

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_UIDS: Statement = select(MESSAGE.c.uid).where(
    MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id")
)
_NAMES_OF = SUBSCRIBED_NAME.c.account_id == _ACCOUNT
_NAMES: Statement = select(SUBSCRIBED_NAME.c.path).where(_NAMES_OF).order_by(in_code_order(SUBSCRIBED_NAME.c.path))
_NAMES_COUNT: Statement = select(func.count()).select_from(SUBSCRIBED_NAME).where(_NAMES_OF)
_NAMES_AMONG: Statement = select(SUBSCRIBED_NAME.c.path).where(
    _NAMES_OF, is_one_of(SUBSCRIBED_NAME.c.path, bindparam("paths"))
)
_ADD_NAME: Statement = insert_or(SUBSCRIBED_NAME).on_conflict_do_nothing()
_DROP_NAMES: Statement = delete(SUBSCRIBED_NAME).where(_NAMES_OF, is_one_of(SUBSCRIBED_NAME.c.path, bindparam("paths")))


@dataclass(frozen=True, slots=True)
class _MailboxRow:
    """A mailbox while the account is locked."""

    id: MailboxId
    path: str
    role: Role | None
    is_subscribed: bool
    is_selectable: bool


_STANDINGS = RowType(_MailboxRow, MAILBOX)
_MAILBOXES: Statement = select(*_STANDINGS.columns).where(MAILBOX.c.account_id == _ACCOUNT)


class StoredMailboxes:
    """The mailboxes of embedded accounts."""

    def __init__(self, database: Database, index: Index) -> None:
        self._database = database
        self._index = index

    async def create_first(
        self, account_id: AccountId, within: Transaction | None = None, *, is_filled: bool = True
    ) -> Applied:
        """Create the initial mailboxes of an account; `within` the transaction that creates it. Safe to repeat.

        Not `is_filled`: INBOX is incomplete until mail on a POP3 server has been fetched.
        """

        async def decide(transaction: Transaction) -> Delta:
            taken = await _mailboxes(transaction, account_id)
            return Delta(
                mailboxes_found=tuple(_mailbox_found(path, role) for path, role in FIRST_MAILBOXES if path not in taken)
            )

        if within is None:
            return await self._index.change(account_id, decide)
        applied = await self._index.change_in(within, account_id, decide)
        if not is_filled:
            await self._index.change_in(within, account_id, _unfilled(applied.mailbox_ids["INBOX"]))
        return applied

    async def create(
        self,
        account_id: AccountId,
        path: str,
        role: Role | None = None,
        *,
        is_subscribed: bool = True,
        conclude: Conclude | None = None,
    ) -> Applied:
        """Create a mailbox and its missing parents (RFC 9051 §6.3.4). Raises AlreadyExists.

        A name that only has child mailboxes becomes a mailbox. A subscription to the name becomes the mailbox's.
        `conclude` is written in the same transaction.
        """
        path = checked_path(path)

        async def decide(transaction: Transaction) -> Delta:
            taken = await _mailboxes(transaction, account_id)
            old = taken.get(path)
            if old is not None and old.is_selectable:
                raise AlreadyExists(f"A mailbox {path!r} already exists")
            new = [text for text in _above(path) if text not in taken] + [path]
            subscribed = await _take_names(transaction, account_id, new)
            if is_subscribed:
                subscribed |= set(new)
            elif old is not None and old.is_subscribed:
                subscribed.add(path)
            roles = {path: role}
            return Delta(
                mailboxes_found=tuple(
                    _mailbox_found(text, roles.get(text), is_subscribed=text in subscribed) for text in new
                )
            )

        return await self._index.change(account_id, decide, conclude=conclude)

    async def rename(self, account_id: AccountId, mailbox_id: MailboxId, path: str) -> Applied:
        """Rename a mailbox and its child mailboxes, and create missing parents of the new name (RFC 9051 §6.3.6).

        Raises AlreadyExists; Conflict for INBOX; InvalidRequest for a name below its own.
        """
        path = checked_path(path)

        async def decide(transaction: Transaction) -> Delta:
            taken = await _mailboxes(transaction, account_id)
            old = _of_id(taken, mailbox_id).path
            if path in taken:
                raise AlreadyExists(f"A mailbox {path!r} already exists")
            if old == "INBOX":
                raise Conflict("INBOX cannot be renamed; move its messages instead")
            if path.startswith(old + DELIMITER):
                raise InvalidRequest("A mailbox cannot be moved into itself")
            renamed = {old: path} | {text: path + text[len(old) :] for text in _below(old, taken)}
            missing = [text for text in _above(path) if text not in taken]
            names = await _take_names(transaction, account_id, [*missing, *renamed.values()])
            return Delta(
                mailboxes_found=tuple(_mailbox_found(text, None, is_subscribed=text in names) for text in missing),
                mailboxes_renamed=tuple(MailboxRenamed(taken[was].id, now, now) for was, now in renamed.items()),
                mailboxes_set=tuple(MailboxSet(taken[was].id, True) for was, now in renamed.items() if now in names),
            )

        return await self._index.change(account_id, decide)

    async def delete(self, account_id: AccountId, mailbox_id: MailboxId) -> Applied:
        """Delete a mailbox with its messages. Raises Conflict for INBOX and for a mailbox with child mailboxes."""

        async def decide(transaction: Transaction) -> Delta:
            taken = await _mailboxes(transaction, account_id)
            mailbox = _deletable(_of_id(taken, mailbox_id))
            if _below(mailbox.path, taken):
                raise Conflict("The mailbox has child mailboxes")
            return Delta(mailboxes_deleted=(MailboxDeleted(mailbox_id),))

        return await self._end(account_id, mailbox_id, decide)

    async def _end(self, account_id: AccountId, mailbox_id: MailboxId, decide: Decide) -> Applied:
        """Make a change that removes all of a mailbox's messages.

        Most of a large mailbox are removed before, if it may end.
        """
        mailbox = await MailboxReader(self._database).mailbox(account_id, mailbox_id)
        if mailbox.total > ENDED_AT_ONCE:

            async def check(transaction: Transaction) -> Delta:
                await decide(transaction)
                return Delta()

            await self._index.change(account_id, check)
            await self._index.shrink(account_id, mailbox_id)
        return await self._index.change(account_id, decide)

    async def delete_name(self, account_id: AccountId, mailbox_id: MailboxId) -> Applied:
        """Delete a mailbox as IMAP does: a subscription stays, and so does a parent's name, without mail.

        Raises Conflict for INBOX, and for a name that only has child mailboxes.
        """

        async def decide(transaction: Transaction) -> Delta:
            taken = await _mailboxes(transaction, account_id)
            mailbox = _deletable(_of_id(taken, mailbox_id))
            if not _below(mailbox.path, taken):
                if mailbox.is_subscribed:
                    await _add_name(transaction, account_id, mailbox.path)
                return Delta(mailboxes_deleted=(MailboxDeleted(mailbox_id),))
            if not mailbox.is_selectable:
                raise Conflict("The mailbox has child mailboxes")
            rows = await transaction.rows(_UIDS, account_id=account_id, mailbox_id=mailbox_id)
            return Delta(
                mailboxes_found=(
                    _mailbox_found(mailbox.path, None, is_subscribed=mailbox.is_subscribed, is_selectable=False),
                ),
                mailboxes_set=(MailboxSet(mailbox_id, is_role_cleared=True),),
                removed=tuple(Removed(Location(mailbox_id, uid)) for (uid,) in rows),
            )

        return await self._end(account_id, mailbox_id, decide)

    async def subscribe(self, account_id: AccountId, path: str, *, is_subscribed: bool) -> Applied:
        """Subscribe to a name, or unsubscribe. The mailbox need not exist (RFC 9051 §6.3.7).

        Raises InvalidRequest for an invalid name; Conflict if there are too many.
        """
        path = checked_path(path)

        async def decide(transaction: Transaction) -> Delta:
            mailbox = (await _mailboxes(transaction, account_id)).get(path)
            if mailbox is not None:
                return Delta(mailboxes_set=(MailboxSet(mailbox.id, is_subscribed),))
            if is_subscribed:
                await _add_name(transaction, account_id, path)
            else:
                await _take_names(transaction, account_id, [path])
            return Delta()

        return await self._index.change(account_id, decide)

    async def names_without_mailbox(self, account_id: AccountId) -> list[str]:
        """Return the subscribed names of an account that have no mailbox."""
        return [path for (path,) in await self._database.rows(_NAMES, account_id=account_id)]


def _unfilled(mailbox_id: MailboxId) -> Decide:
    async def decide(_: Transaction) -> Delta:
        return Delta(mailboxes_counted=(MailboxCounted(mailbox_id, is_complete=False),))

    return decide


def checked_path(path: str) -> str:
    """Check a path: "/" between levels; INBOX in any case becomes INBOX. Raises InvalidRequest."""
    levels = path.split(DELIMITER)
    if len(path) > PATH_LIMIT or len(levels) > DEPTH_LIMIT:
        raise InvalidRequest(f"A mailbox path may have at most {PATH_LIMIT} characters and {DEPTH_LIMIT} levels")
    if any(not level or level != level.strip() for level in levels):
        raise InvalidRequest("A mailbox name must not be empty or have spaces at its ends")
    if any(ord(text) < 32 or text == "\x7f" or 0xD800 <= ord(text) < 0xE000 for text in path):
        raise InvalidRequest("A mailbox name must not contain control characters")
    if levels[0].upper() == "INBOX":
        levels[0] = "INBOX"
    return DELIMITER.join(levels)


async def require_mailbox(transaction: Transaction, account_id: AccountId, mailbox_id: MailboxId) -> None:
    """Raises MailboxNotFound if the mailbox does not exist, or its name only has child mailboxes."""
    if not _of_id(await _mailboxes(transaction, account_id), mailbox_id).is_selectable:
        raise MailboxNotFound


async def _mailboxes(transaction: Transaction, account_id: AccountId) -> dict[str, _MailboxRow]:
    """Return the mailboxes by path."""
    standings = _STANDINGS.read_all(await transaction.rows(_MAILBOXES, account_id=account_id))
    return {mailbox.path: mailbox for mailbox in standings}


def _of_id(mailboxes: Mapping[str, _MailboxRow], mailbox_id: MailboxId) -> _MailboxRow:
    for mailbox in mailboxes.values():
        if mailbox.id == mailbox_id:
            return mailbox
    raise MailboxNotFound


def _deletable(mailbox: _MailboxRow) -> _MailboxRow:
    if mailbox.path == "INBOX":
        raise Conflict("INBOX cannot be deleted")
    return mailbox


def _above(path: str) -> list[str]:
    levels = path.split(DELIMITER)
    return [DELIMITER.join(levels[:count]) for count in range(1, len(levels))]


def _below(path: str, paths: Collection[str]) -> list[str]:
    return [text for text in paths if text.startswith(path + DELIMITER)]


def _mailbox_found(
    path: str, role: Role | None, *, is_subscribed: bool = True, is_selectable: bool = True
) -> MailboxFound:
    return MailboxFound(path, path, DELIMITER, role, 0, is_subscribed, is_selectable)


async def _add_name(transaction: Transaction, account_id: AccountId, path: str) -> None:
    if value_of(await transaction.row(_NAMES_COUNT, account_id=account_id)) >= NAMES_LIMIT:
        raise Conflict(f"At most {NAMES_LIMIT} names without a mailbox can be subscribed to")
    await transaction.execute(_ADD_NAME, account_id=account_id, path=path)


async def _take_names(transaction: Transaction, account_id: AccountId, paths: Collection[str]) -> set[str]:
    """Remove the subscriptions to those of the paths without a mailbox, and return them."""
    among = json_list(list(paths))
    names = {path for (path,) in await transaction.rows(_NAMES_AMONG, account_id=account_id, paths=among)}
    if names:
        await transaction.execute(_DROP_NAMES, account_id=account_id, paths=among)
    return names
