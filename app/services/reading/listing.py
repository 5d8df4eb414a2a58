"""Lists of messages: filtered, sorted, paged by signed anchors, as fresh as `freshness` can make them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from app.errors import InvalidRequest, MailboxNotFound, StateExpired
from app.mail import filter as f
from app.mail.types import AccountId, Position
from app.mailstore.reader import MailReader
from app.mailstore.reading.lists import NEWEST_FIRST, Anchor, Listed, Sort
from app.mailstore.reading.mailboxes import IndexStatus
from app.services.access.callers import Caller
from app.services.accounts.accounts import SyncState
from app.services.following.states import States
from app.services.reading.freshness import Freshness
from app.services.reading.naming import MailboxNames
from app.services.reading.texts import Texts

SORT_KEYS = ("received_at", "date", "size", "subject", "from")
_FINGERPRINT_DIGITS = 12
_LIST = "messages"


@dataclass(frozen=True, slots=True)
class ListOrder:
    """What to list. A list is of one mailbox if the filter has no other condition.

    `is_forced`: the mail server must be asked first. `is_anywhere`: include Trash and Junk if the filter names no
    mailbox.
    """

    tree: f.Filter
    sort: Sort = NEWEST_FIRST
    limit: int = 50
    cursor: str | None = None
    count: Literal["exact", "estimate"] | None = None
    is_forced: bool = False
    is_anywhere: bool = False

    @property
    def mailbox_id(self) -> str | None:
        """The one mailbox that the list is limited to, if any."""
        leaves = self.tree.of if isinstance(self.tree, f.All) else (self.tree,)
        return next((leaf.mailbox_id for leaf in leaves if isinstance(leaf, f.InMailbox)), None)


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page. `position` is the end of the log before the page was read: following from there misses nothing."""

    items: list[Listed]
    position: Position
    sync: SyncState
    next_cursor: str | None = None
    prev_cursor: str | None = None
    total: int | None = None
    indexed: tuple[int, int] | None = None
    """Messages in the full-text index, and in total; None unless the filter looks for texts."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The content of a cursor: an anchor (None: the beginning), and on which side of it the page is."""

    anchor: Anchor | None = None
    is_before: bool = False


@dataclass(frozen=True, slots=True)
class PreparedList:
    """A list that is about to be read, and the state that the caller may be given before that.

    `tree` is the filter of the order, limited by the defaults (such as no Trash).
    """

    account_id: AccountId
    caller: Caller
    order: ListOrder
    tree: f.Filter
    place: _Place
    standing: IndexStatus
    sync: SyncState


class Listing:
    """Returns lists and searches."""

    def __init__(self, reader: MailReader, states: States, freshness: Freshness, texts: Texts) -> None:
        self._reader = reader
        self._states = states
        self._freshness = freshness
        self._texts = texts
        self._names = MailboxNames(reader)

    async def prepare(self, account_id: AccountId, caller: Caller, order: ListOrder) -> PreparedList:
        """Update the index if it may be stale for this list, and return the state of the list before it is read.

        Raises MailboxNotFound; InvalidRequest for a cursor of another list, StateExpired if its mailbox was
        recreated.
        """
        order = replace(order, tree=await self._names.resolved(account_id, caller, order.tree))
        mailbox_id = order.mailbox_id
        standing = await self._reader.mailboxes.standing(account_id, mailbox_id)
        if mailbox_id is not None and (standing.uid_validity is None or not caller.sees_mailbox(mailbox_id)):
            raise MailboxNotFound().naming("mailbox_id")
        place = self._place(account_id, order, standing)
        below_uid = place.anchor.uid if place.anchor is not None and not place.is_before else None
        standing, sync = await self._freshness.settle(
            account_id, standing, mailbox_id, count=order.limit + 1, below_uid=below_uid, is_forced=order.is_forced
        )
        tree = order.tree if order.is_anywhere else await self._names.without_trash(account_id, order.tree)
        return PreparedList(account_id, caller, order, tree, place, standing, sync)

    async def page(self, prepared: PreparedList) -> ListPage:
        """Read the list."""
        order, place, tree = prepared.order, prepared.place, prepared.tree
        if isinstance(tree, f.InMailbox) and order.sort == NEWEST_FIRST and place.anchor is None:
            rows = await self._reader.lists.first_page(
                prepared.account_id,
                tree.mailbox_id,
                order.limit + 1,
                has_placements=prepared.standing.has_placements,
            )
        else:
            limited = limited_to(tree, prepared.caller)
            tree = (await self._texts.answered(prepared.account_id, prepared.caller, limited)).tree
            before, after = (place.anchor, None) if place.is_before else (None, place.anchor)
            rows = await self._reader.lists.search(
                prepared.account_id, tree, sort=order.sort, limit=order.limit + 1, after=after, before=before
            )
        page = self.cut(prepared, rows, None if order.count is None else await self._count(prepared, tree))
        return replace(page, indexed=await self._texts.coverage(prepared.account_id, prepared.caller, order.tree))

    async def _count(self, prepared: PreparedList, tree: f.Filter) -> int:
        standing = prepared.standing
        if (
            prepared.order.count == "estimate"
            and isinstance(prepared.order.tree, f.InMailbox)
            and standing.total is not None
        ):
            return standing.total
        return await self._reader.lists.count(prepared.account_id, tree)

    def cut(self, prepared: PreparedList, rows: list[Listed], total: int | None) -> ListPage:
        """Make a page. One more message than shown was read: its presence means that there are more on that side."""
        limit, place = prepared.order.limit, prepared.place
        has_more = len(rows) > limit
        items = rows[-limit:] if place.is_before else rows[:limit]
        if items:
            after, before = _Place(items[-1].anchor), _Place(items[0].anchor, is_before=True)
        else:
            after, before = _Place(), replace(place, is_before=True)
        has_next = place.is_before or has_more
        has_prev = has_more if place.is_before else place.anchor is not None
        return ListPage(
            items,
            prepared.standing.position,
            prepared.sync,
            self._seal(prepared, after) if has_next else None,
            self._seal(prepared, before) if has_prev else None,
            total,
        )

    # ---- cursors

    def _seal(self, prepared: PreparedList, place: _Place) -> str:
        anchor = place.anchor
        values = None if anchor is None else [anchor.sort_value, anchor.uid, anchor.id]
        content = [values, place.is_before, prepared.standing.uid_validity, fingerprint_of(prepared.order)]
        return self._states.seal_cursor(_LIST, prepared.account_id, content)

    def _place(self, account_id: AccountId, order: ListOrder, standing: IndexStatus) -> _Place:
        if order.cursor is None:
            return _Place()
        match self._states.open_cursor(_LIST, order.cursor, account_id):
            case [values, bool(is_before), validity, fingerprint] if fingerprint == fingerprint_of(order):
                if validity != standing.uid_validity:
                    raise StateExpired(
                        "The mailbox was recreated on the mail server", [order.mailbox_id] if order.mailbox_id else []
                    )
                return _Place(None if values is None else Anchor(*values), is_before)
            case _:
                raise InvalidRequest.parameter("cursor", "This cursor belongs to another list")


def limited_to(tree: f.Filter, caller: Caller) -> f.Filter:
    """Return the filter limited to the caller's mailboxes."""
    if caller.mailbox_ids is None:
        return tree
    return f.All((tree, f.Any(tuple(f.InMailbox(mailbox_id_) for mailbox_id_ in sorted(caller.mailbox_ids)))))


def sort_of(text: str) -> Sort:
    """Parse a sort such as `-received_at`; a minus is descending. Raises InvalidRequest for another key."""
    key = text.removeprefix("-")
    if key not in SORT_KEYS:
        raise InvalidRequest.parameter(
            "sort", f"Must be one of {', '.join(SORT_KEYS)}, with a minus for descending order"
        )
    return Sort(key, text.startswith("-"))


def fingerprint_of(order: ListOrder, account_ids: Sequence[str] | None = None) -> str:
    """Return what a cursor is bound to: the filter and order of the list, and the accounts of a search."""
    bound = f"{order.tree!r} {order.is_anywhere} {order.sort!r} {'' if account_ids is None else sorted(account_ids)}"
    return hashlib.sha256(bound.encode("utf-8", "replace")).hexdigest()[:_FINGERPRINT_DIGITS]
