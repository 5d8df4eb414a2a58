"""Mailboxes: listed from the index; changed on the mail server, then in the index, which emits the events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from app.db.session import Transaction
from app.errors import AlreadyExists, Conflict, InvalidRequest, MailboxNotFound, NotPermitted
from app.mail.backend import Backends, OriginMailbox
from app.mail.confirmed import Applied, Confirmed
from app.mail.delta import Delta, MailboxFound, MailboxSet
from app.mail.types import AccountId, AccountKind, Mailbox, Position, Role
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.reading.mailboxes import MailboxReader
from app.mailstore.store import MailStore
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.access.visibility import LEVEL, seen_mailboxes
from app.services.reading.freshness import Freshness
from app.services.reading.naming import MailboxNames
from app.services.reading.pages import page_after

NAME_LIMIT_CHARS = 200


@dataclass(frozen=True, slots=True)
class MailboxChanges:
    """Changes; None keeps a value.

    `is_moved` and `is_role_set` distinguish a parent or role of None from an absent one.
    """

    name: str | None = None
    parent_id: str | None = None
    is_moved: bool = False
    is_subscribed: bool | None = None
    role: Role | None = None
    is_role_set: bool = False


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox to create. `parent_id` None: at the top level."""

    name: str
    parent_id: str | None = None
    role: Role | None = None


AnswerFor = Callable[[Mailbox, Position], Answer]
"""Makes the answer to the request that created a mailbox, with the end of the account's log after it."""


class Mailboxes:
    """The mailboxes of an account that a caller may see."""

    def __init__(
        self, index: Index, reader: MailReader, backends: Backends, store: MailStore, freshness: Freshness
    ) -> None:
        self._freshness = freshness
        self._index = index
        self._reader = reader
        self._store = store
        self._backends = backends
        self._names = MailboxNames(reader)

    async def id_of(self, account_id: AccountId, caller: Caller, mailbox_id: str) -> str:
        """Return the id of a mailbox given by id or role. Raises MailboxNotFound if the caller does not see it."""
        return await self._names.id_of(account_id, caller, mailbox_id)

    async def refresh(self, account_id: AccountId) -> None:
        """Ask the mail server for changes if the account was not being followed."""
        await self._freshness.settle_mailboxes(account_id)

    async def list(self, account_id: AccountId, caller: Caller) -> list[Mailbox]:
        """Return the visible mailboxes by path."""
        return seen_mailboxes(await self._reader.mailboxes.mailboxes(account_id), caller.mailbox_ids)

    async def page(
        self, account_id: AccountId, caller: Caller, limit: int | None, after: str | None
    ) -> tuple[Sequence[Mailbox], str | None]:
        """Return mailboxes by path, those after a path, at most `limit`; and the last path if there are more."""
        return page_after(await self.list(account_id, caller), lambda mailbox: mailbox.path, limit, after)

    async def get(self, account_id: AccountId, mailbox_id: str, caller: Caller) -> Mailbox:
        """Raises MailboxNotFound."""
        mailbox_id = await self.id_of(account_id, caller, mailbox_id)
        if caller.mailbox_ids is None:
            return await self._reader.mailboxes.mailbox(account_id, mailbox_id)
        visible = await self.list(account_id, caller)
        mailbox = next((item for item in visible if item.id == mailbox_id), None)
        if mailbox is None:
            raise MailboxNotFound
        return mailbox

    async def create(
        self,
        account_id: AccountId,
        new: NewMailbox,
        caller: Caller,
        attempt: Attempt,
        answer_for: AnswerFor,
    ) -> Answer:
        """Create a mailbox, once in all attempts.

        Raises AlreadyExists, InvalidRequest, NotPermitted, MailServerError. For embedded accounts, the mailbox and
        the answer are written in one transaction.
        """
        self.check_creation(caller)
        path = await self._path(account_id, new.name, new.parent_id)
        if AccountKind((await self._reader.mailboxes.standing(account_id)).kind).is_kept_here:
            return await self._keep(account_id, path, new.role, attempt, answer_for)
        made = await self._made(account_id, path, new.role, attempt)
        applied = await self._index.confirm(account_id, made, is_durable=True)
        mailboxes = await self._reader.mailboxes.mailboxes(account_id)
        found = next((mailbox for mailbox in mailboxes if mailbox.path == path), None)
        if found is None:  # the server spells the name in its own way
            created = set(applied.mailbox_ids.values())
            found = next((mailbox for mailbox in reversed(mailboxes) if mailbox.id in created), None)
        if found is None:
            raise MailboxNotFound
        return answer_for(found, applied.position)

    async def _keep(
        self, account_id: AccountId, path: str, role: Role | None, attempt: Attempt, answer_for: AnswerFor
    ) -> Answer:
        answers: list[Answer] = []

        async def conclude(transaction: Transaction, applied: Applied) -> None:
            made = [*applied.mailbox_ids.values()][-1]  # its new parents come first
            mailbox = await MailboxReader(transaction).mailbox(account_id, made)
            answer = answer_for(mailbox, applied.position)
            await attempt.record(transaction, answer)
            transaction.after_commit(partial(answers.append, answer))

        await self._store.mailboxes.create(account_id, path, role, conclude=conclude)
        return answers[-1]

    async def _made(self, account_id: AccountId, path: str, role: Role | None, attempt: Attempt) -> Confirmed:
        """Create it on the mail server, or find the one that an earlier attempt created."""
        backend = await self._backends.of(account_id)
        may_exist = bool(attempt.facts)
        if not may_exist:
            await attempt.note({"path": path})
        try:
            return await backend.create_mailbox(path, role)
        except AlreadyExists:
            existing = next((mailbox for mailbox in await backend.list_mailboxes() if mailbox.path == path), None)
            if not may_exist or existing is None:
                raise
            return Confirmed(Delta(mailboxes_found=(_mailbox_found(existing, role),)))

    def check_creation(self, caller: Caller) -> None:
        """Raises NotPermitted for a caller that may not create mailboxes."""
        if caller.mailbox_ids is not None:
            raise NotPermitted("A token limited to mailboxes cannot create a mailbox")

    async def update(self, account_id: AccountId, mailbox_id: str, changes: MailboxChanges, caller: Caller) -> Mailbox:
        """Rename, move, subscribe, or set the role. Raises as `create`, and MailboxNotFound, Conflict."""
        mailbox_id = await self.id_of(account_id, caller, mailbox_id)
        mailbox = await self._reader.mailboxes.mailbox(account_id, mailbox_id)
        await self._check_limits(account_id, mailbox, changes, caller)
        backend = await self._backends.of(account_id)
        if changes.name is not None or changes.is_moved:
            parent_id = changes.parent_id if changes.is_moved else mailbox.parent_id
            name = mailbox.name if changes.name is None else changes.name
            path = await self._path(account_id, name, parent_id)
            if path.startswith(mailbox.path + LEVEL):
                raise Conflict("A mailbox cannot be moved into itself")
            if path != mailbox.path:
                confirmed = await backend.rename_mailbox(mailbox, path)
                await self._index.confirm(account_id, confirmed, is_durable=True)
        if changes.is_subscribed is not None:
            mailbox = await self._reader.mailboxes.mailbox(account_id, mailbox_id)
            confirmed = await backend.set_subscribed(mailbox, changes.is_subscribed)
            await self._index.confirm(account_id, confirmed, is_durable=True)
        if changes.is_role_set:
            await self._set_role(account_id, mailbox, changes.role)
        return await self.get(account_id, mailbox_id, caller)

    async def _check_limits(
        self, account_id: AccountId, mailbox: Mailbox, changes: MailboxChanges, caller: Caller
    ) -> None:
        """Refuse changes beyond the mailboxes of a limited token, or that other tokens see. Raises NotPermitted."""
        if caller.mailbox_ids is None:
            return
        if changes.is_role_set:
            raise NotPermitted("A token limited to mailboxes cannot change roles")
        if changes.is_moved and changes.parent_id is None and mailbox.parent_id is not None:
            raise NotPermitted("A token limited to mailboxes cannot move a mailbox to the top level")
        if changes.is_moved and changes.parent_id is not None and not caller.sees_mailbox(changes.parent_id):
            raise InvalidRequest.at("/parent_id", "Unknown mailbox")
        if changes.name is not None or changes.is_moved:
            below = mailbox.path + LEVEL
            others = await self._reader.mailboxes.mailboxes(account_id)
            if any(other.path.startswith(below) and not caller.sees_mailbox(other.id) for other in others):
                raise NotPermitted("The token does not include all child mailboxes")

    async def remove(self, account_id: AccountId, mailbox_id: str, caller: Caller) -> None:
        """Delete a mailbox with its messages. Raises Conflict for INBOX and for a mailbox with child mailboxes."""
        mailbox_id = await self.id_of(account_id, caller, mailbox_id)
        mailbox = await self._reader.mailboxes.mailbox(account_id, mailbox_id)
        backend = await self._backends.of(account_id)
        confirmed = await backend.delete_mailbox(mailbox)
        await self._index.confirm(account_id, confirmed, is_durable=True)

    async def _set_role(self, account_id: AccountId, mailbox: Mailbox, role: Role | None) -> None:
        """Set a role in the index only, and remove it from the account's other mailboxes."""
        others = [
            item
            for item in await self._reader.mailboxes.mailboxes(account_id)
            if item.role == role and item.id != mailbox.id
        ]
        cleared = [MailboxSet(other.id, is_role_cleared=True) for other in others if role is not None]
        this = MailboxSet(mailbox.id, role=role, is_role_cleared=role is None)
        await self._index.apply(account_id, Delta(mailboxes_set=(*cleared, this)), is_durable=True)

    async def _path(self, account_id: AccountId, name: str, parent_id: str | None) -> str:
        """Return the path of a name below a parent. Raises InvalidRequest for an invalid name or parent."""
        if not name.strip() or name != name.strip() or len(name) > NAME_LIMIT_CHARS:
            raise InvalidRequest.at(
                "/name", f"A name must have 1 to {NAME_LIMIT_CHARS} characters, without spaces at its ends"
            )
        if LEVEL in name:
            raise InvalidRequest.at("/name", "A name must not contain /: give the parent as parent_id")
        if not name.isprintable():
            raise InvalidRequest.at("/name", "A name must not contain control characters")
        if parent_id is None:
            return name
        try:
            parent = await self._reader.mailboxes.mailbox(account_id, parent_id)
        except MailboxNotFound:
            raise InvalidRequest.at("/parent_id", "Unknown mailbox") from None
        return parent.path + LEVEL + name


def _mailbox_found(listed: OriginMailbox, role: Role | None) -> MailboxFound:
    return MailboxFound(
        listed.origin_name,
        listed.path,
        listed.delimiter,
        listed.role or role,
        listed.uid_validity or 0,
        listed.is_subscribed,
        listed.is_selectable,
    )
