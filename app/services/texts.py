"""Conditions on text: the full-text index answers them for the messages it holds, the origin for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.errors import InvalidRequest, MailServerError, TimedOut
from app.mail import filter as f
from app.mail.backend import Backends
from app.mail.searchable import fold
from app.mail.types import AccountId, Mailbox, MailboxId, MessageId
from app.mailstore.index import Index
from app.mailstore.texts import TextIndex
from app.services.callers import Caller
from app.services.together import together

TEXTS_LIMIT = 10
"""Different texts in one search."""
MAILBOXES_AT_A_TIME = 4
SEARCH_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Unindexed:
    """Mailboxes with messages that the index does not hold, with their UIDs."""

    mailboxes: Sequence[Mailbox]
    uids: Mapping[MailboxId, Sequence[int]]


class Texts:
    """Replaces the Text leaves of a filter by what the index can answer."""

    def __init__(self, backends: Backends, index: Index, text_index: TextIndex) -> None:
        self._backends = backends
        self._index = index
        self._text_index = text_index

    async def coverage(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> tuple[int, int] | None:
        """How many messages the index holds of how many there are.

        None for a filter without texts, and for one who sees only some mailboxes: it counts what is in all.
        """
        is_told = caller.mailbox_ids is None and any(f.texts_in(tree))
        return await self._text_index.coverage(account_id) if is_told else None

    async def answered(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> f.Filter:
        """The filter without Text leaves. InvalidRequest for too many; TimedOut, MailServerError."""
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                return await self._answered(account_id, caller, tree)
        except TimeoutError:
            raise TimedOut("The search took too long; narrow it to a mailbox") from None

    async def as_far_as_answered(
        self, account_id: AccountId, caller: Caller, tree: f.Filter, seconds: float
    ) -> tuple[f.Filter, bool]:
        """The same within `seconds`, and whether the origin answered; else what the index alone answers."""
        try:
            async with asyncio.timeout(seconds):
                return await self._answered(account_id, caller, tree), True
        except (TimeoutError, MailServerError):
            return f.with_answers(tree, {one: await self._by_index(account_id, one) for one in f.texts_in(tree)}), False

    async def _answered(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> f.Filter:
        texts = set(f.texts_in(tree))
        if not texts:
            return tree
        if len(texts) > TEXTS_LIMIT:
            raise InvalidRequest.at("/filter", f"There are more than {TEXTS_LIMIT} conditions on body, text or header")
        unindexed = await self._unindexed(account_id, caller, tree)
        answers: dict[f.Text, f.Filter] = {}
        for text in texts:
            answers[text] = await self._by_index(account_id, text)
            if unindexed.mailboxes:
                ids = await self._ids(account_id, unindexed, text)
                answers[text] = f.Any((answers[text], f.IsOneOf(ids)))
        return f.with_answers(tree, answers)

    async def _unindexed(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> _Unindexed:
        """Where the origin must be asked: mailboxes that the caller sees and the filter demands."""
        uids = await self._text_index.unindexed(account_id)
        demanded = demanded_mailboxes(tree)
        mailboxes = [
            one
            for one in (await self._index.mailboxes(account_id) if uids else ())
            if one.id in uids
            and one.is_selectable
            and caller.sees_mailbox(one.id)
            and (demanded is None or one.id in demanded)
        ]
        return _Unindexed(mailboxes, uids)

    async def _by_index(self, account_id: AccountId, text: f.Text) -> f.Filter:
        folded = fold(text.value)
        if not text.scope.startswith("header:"):
            return f.IndexedText(account_id, text.scope, folded)
        name = text.scope.removeprefix("header:")
        return f.IsOneOf(await self._text_index.with_field(account_id, name, folded))

    async def _ids(self, account_id: AccountId, unindexed: _Unindexed, text: f.Text) -> list[MessageId]:
        backend = await self._backends.of(account_id)

        async def search(mailbox: Mailbox) -> list[MessageId]:
            uids = await backend.search(mailbox, text.scope, text.value, unindexed.uids[mailbox.id])
            return await self._index.ids_at(account_id, mailbox.id, uids) if uids else []

        found = await together(map(search, unindexed.mailboxes), MAILBOXES_AT_A_TIME)
        return [id_ for ids in found for id_ in ids]


def demanded_mailboxes(tree: f.Filter) -> set[str] | None:
    """The mailboxes outside of which nothing can match; None when the filter demands none."""
    match tree:
        case f.InMailbox(mailbox_id):
            return {mailbox_id}
        case f.All(of):
            demands = [one for one in map(demanded_mailboxes, of) if one is not None]
            return set.intersection(*demands) if demands else None
        case f.Any(of):
            return _union([demanded_mailboxes(one) for one in of])
        case _:
            return None


def _union(demands: Iterable[set[str] | None]) -> set[str] | None:
    found: set[str] = set()
    for one in demands:
        if one is None:
            return None
        found |= one
    return found
