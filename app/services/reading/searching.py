"""One search over many accounts: each has its own deadline, so that no account delays the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Protocol

from app.errors import AccountNotFound, GatewayError, InvalidRequest
from app.mail import filter as f
from app.mail.types import AccountId
from app.mailstore.reader import MailReader
from app.mailstore.reading.lists import Anchor, Listed
from app.mailstore.reading.mailboxes import IndexStatus
from app.services.access.callers import Caller
from app.services.accounts.accounts import SyncState
from app.services.following.states import EVERY_ACCOUNT, States
from app.services.reading.freshness import Freshness
from app.services.reading.listing import ListOrder, fingerprint_of, limited_to
from app.services.reading.naming import MailboxNames
from app.services.reading.texts import ORIGIN_SECONDS, Texts

ACCOUNTS_LIMIT = 100
AT_A_TIME = 16
ACCOUNT_SECONDS = 4.0
"""How long an account may take."""
ALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """The result of one account. If not `is_complete`, there may be more; `error` is the reason if it failed."""

    account_id: AccountId
    found: Sequence[Listed] = ()
    is_complete: bool = False
    standing: IndexStatus | None = None
    sync: SyncState | None = None
    indexed: tuple[int, int] | None = None
    error: GatewayError | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """`items` are the first results of all accounts, in order, each with its account."""

    items: Sequence[tuple[AccountId, Listed]]
    accounts: Sequence[AccountAnswer]
    next_cursor: str | None

    @property
    def total(self) -> int | None:
        """The total of the counted results; None if none were counted."""
        counted = [answer.total for answer in self.accounts if answer.total is not None]
        return sum(counted) if counted else None


class AccountDirectory(Protocol):
    """Lists the accounts."""

    async def visible_ids(self, caller: Caller) -> list[AccountId]: ...


class Searching:
    """Searches accounts concurrently."""

    def __init__(
        self, accounts: AccountDirectory, reader: MailReader, states: States, freshness: Freshness, texts: Texts
    ) -> None:
        self._accounts = accounts
        self._reader = reader
        self._states = states
        self._freshness = freshness
        self._texts = texts
        self._names = MailboxNames(reader)

    async def page(self, caller: Caller, account_ids: Sequence[str] | None, order: ListOrder) -> SearchPage:
        """Return a page over these accounts, or all that the caller sees.

        Raises AccountNotFound, InvalidRequest for too many.
        """
        ids = await self._ids(caller, account_ids)
        fingerprint = fingerprint_of(order, account_ids)
        after = self._after(order, fingerprint)
        gate = asyncio.Semaphore(AT_A_TIME)

        async def answer(account_id: AccountId) -> AccountAnswer:
            async with gate:
                return await self._answer(account_id, caller, order, after)

        tasks = {asyncio.create_task(answer(item)): item for item in ids}
        try:
            done, _ = await asyncio.wait(tasks, timeout=ALL_SECONDS) if tasks else (set(), set())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        answers = [task.result() if task in done else AccountAnswer(id_) for task, id_ in tasks.items()]
        return self._merged(answers, order, fingerprint)

    async def _ids(self, caller: Caller, account_ids: Sequence[str] | None) -> list[AccountId]:
        visible = await self._accounts.visible_ids(caller)
        ids = visible if account_ids is None else list(dict.fromkeys(map(caller.account, account_ids)))
        if not set(ids) <= set(visible):
            raise AccountNotFound
        if len(ids) > ACCOUNTS_LIMIT:
            raise InvalidRequest.at("/account_ids", f"The token has more than {ACCOUNTS_LIMIT} accounts: choose some")
        return ids

    async def _answer(
        self, account_id: AccountId, caller: Caller, order: ListOrder, after: Anchor | None
    ) -> AccountAnswer:
        try:
            async with asyncio.timeout(ACCOUNT_SECONDS):
                standing = await self._reader.mailboxes.standing(account_id)
                standing, sync = await self._freshness.settle(account_id, standing, None, count=order.limit + 1)
                searched = await self._tree(account_id, caller, order)
                answered = await self._texts.answered(
                    account_id, caller, limited_to(searched, caller), min(ORIGIN_SECONDS, ACCOUNT_SECONDS / 2)
                )
                tree = answered.tree
                rows = await self._reader.lists.search(
                    account_id, tree, sort=order.sort, limit=order.limit + 1, after=after
                )
                total = None if order.count is None else await self._reader.lists.count(account_id, tree)
                indexed = await self._texts.coverage(account_id, caller, searched)
            return AccountAnswer(account_id, rows, answered.is_complete, standing, sync, indexed, total=total)
        except TimeoutError:
            return AccountAnswer(account_id)
        except InvalidRequest:
            raise
        except GatewayError as error:
            return AccountAnswer(account_id, error=error)

    async def _tree(self, account_id: AccountId, caller: Caller, order: ListOrder) -> f.Filter:
        """Return the filter for this account."""
        tree = await self._names.resolved(account_id, caller, order.tree, lenient=True)
        return tree if order.is_anywhere else await self._names.without_trash(account_id, tree)

    def _merged(self, answers: Sequence[AccountAnswer], order: ListOrder, fingerprint: str) -> SearchPage:
        lists = [[(answer.account_id, listed) for listed in answer.found] for answer in answers]
        ordered = merge(*lists, key=lambda entry: _rank(entry[1].anchor), reverse=order.sort.is_descending)
        items = [entry for entry, _ in zip(ordered, range(order.limit + 1), strict=False)]
        if len(items) <= order.limit:
            return SearchPage(items, answers, None)
        items = items[: order.limit]
        last = items[-1][1].anchor
        content = [[last.sort_value, last.uid, last.id], fingerprint]
        return SearchPage(items, answers, self._states.seal_cursor("search", EVERY_ACCOUNT, content))

    def _after(self, order: ListOrder, fingerprint: str) -> Anchor | None:
        if order.cursor is None:
            return None
        match self._states.open_cursor("search", order.cursor, EVERY_ACCOUNT):
            case [[value, int(uid), str(id_)], str(sealed)] if sealed == fingerprint:
                return Anchor(value, uid, id_)
            case _:
                raise InvalidRequest.parameter("cursor", "This cursor belongs to another search")


def _rank(anchor: Anchor) -> tuple[int | str, int, str]:
    return anchor.sort_value, anchor.uid, anchor.id
