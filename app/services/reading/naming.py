"""Mailboxes by name: a role in place of an id, a path in a search text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.errors import InvalidRequest, MailboxNotFound
from app.mail import filter as f
from app.mail.types import AccountId, Mailbox, Role
from app.mailstore.reader import MailReader
from app.services.access.callers import Caller

_ROLES = frozenset(role.value for role in Role)
_LEFT_OUT = (Role.TRASH, Role.JUNK)
"""The roles that a search without a mailbox leaves out."""


class MailboxNames:
    """Resolves names of the mailboxes that the caller sees."""

    def __init__(self, reader: MailReader) -> None:
        self._reader = reader

    async def id_of(self, account_id: AccountId, caller: Caller, id_or_role: str) -> str:
        """Return the id of a mailbox that is given by its id or by a role's name, such as `inbox`.

        Raises MailboxNotFound for an id that the caller may not see, and for a role that none of its mailboxes has.
        """
        if id_or_role not in _ROLES:
            caller.require_mailbox(id_or_role)
            return id_or_role
        for id_, role in await self._reader.mailboxes.roles(account_id):
            if role == id_or_role and caller.sees_mailbox(id_):
                return id_
        raise MailboxNotFound(f"No mailbox has the role {id_or_role}")

    async def resolved(
        self, account_id: AccountId, caller: Caller, tree: f.Filter, *, lenient: bool = False
    ) -> f.Filter:
        """Return the filter with an id wherever it names a mailbox by role or path.

        Raises MailboxNotFound for an unknown role, InvalidRequest at `q` for an unknown path. With `lenient`, such a
        condition matches no message, which is right for one account of several.
        """
        if not any(map(_is_named, f.leaves_in(tree))):
            return tree
        visible = await self._visible(account_id, caller)

        def resolve(leaf: f.Filter) -> f.Filter:
            if not _is_named(leaf):
                return leaf
            mailbox = _named(visible, leaf)
            if mailbox is not None:
                return f.InMailbox(mailbox.id)
            if lenient:
                return f.Any(())
            raise _unknown(leaf)

        return f.with_leaves(tree, resolve)

    async def without_trash(self, account_id: AccountId, tree: f.Filter) -> f.Filter:
        """Exclude Trash and Junk, unless the filter names a mailbox."""
        if f.names_mailbox(tree):
            return tree
        excluded = [id_ for id_, role in await self._reader.mailboxes.roles(account_id) if role in _LEFT_OUT]
        return f.All((tree, *(f.Not(f.InMailbox(id_)) for id_ in excluded))) if excluded else tree

    async def _visible(self, account_id: AccountId, caller: Caller) -> list[Mailbox]:
        return [
            mailbox for mailbox in await self._reader.mailboxes.mailboxes(account_id) if caller.sees_mailbox(mailbox.id)
        ]


def _is_named(leaf: f.Filter) -> bool:
    return isinstance(leaf, f.InMailboxNamed) or (isinstance(leaf, f.InMailbox) and leaf.mailbox_id in _ROLES)


def _named(mailboxes: Sequence[Mailbox], leaf: f.Filter) -> Mailbox | None:
    match leaf:
        case f.InMailbox(role):
            return _with_role(mailboxes, role)
        case f.InMailboxNamed(name):
            return _with_role(mailboxes, name.lower()) or _with_path(mailboxes, name)
        case _:
            return None


def _with_role(mailboxes: Sequence[Mailbox], role: str) -> Mailbox | None:
    return next((mailbox for mailbox in mailboxes if mailbox.role is not None and mailbox.role.value == role), None)


def _with_path(mailboxes: Sequence[Mailbox], name: str) -> Mailbox | None:
    """Return the mailbox with this id or path; compare exactly, then ignoring case, then by the last level."""
    folded = name.casefold()
    tests: tuple[Callable[[Mailbox], bool], ...] = (
        lambda item: name in (item.id, item.path),
        lambda item: item.path.casefold() == folded,
        lambda item: item.name.casefold() == folded,
    )
    return next((item for test in tests for item in mailboxes if test(item)), None)


def _unknown(leaf: f.Filter) -> Exception:
    if isinstance(leaf, f.InMailboxNamed):
        return InvalidRequest.parameter("q", f"No mailbox is named `{leaf.name}`")
    return MailboxNotFound().naming("mailbox_id")
