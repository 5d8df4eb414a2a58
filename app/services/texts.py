"""Conditions on text that the index does not hold: the origin answers them, mailbox by mailbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from app.errors import InvalidRequest, TimedOut
from app.mail import filter as f
from app.mail.backend import Backends
from app.mail.types import AccountId, Mailbox, MessageId
from app.mailstore.index import Index
from app.services.callers import Caller
from app.services.together import together

TEXTS_LIMIT = 10
"""Different texts in one search."""
MAILBOXES_AT_A_TIME = 4
SEARCH_SECONDS = 30.0


class Texts:
    """Turns the Text leaves of a filter into lists of ids."""

    def __init__(self, backends: Backends, index: Index) -> None:
        self._backends = backends
        self._index = index

    async def answered(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> f.Filter:
        """The filter without Text leaves. InvalidRequest for too many; TimedOut, MailServerError."""
        texts = set(f.texts_in(tree))
        if not texts:
            return tree
        if len(texts) > TEXTS_LIMIT:
            raise InvalidRequest.at("/filter", f"There are more than {TEXTS_LIMIT} conditions on body, text or header")
        mailboxes = await self._mailboxes(account_id, caller, tree)
        answers: dict[f.Text, f.Filter] = {}
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                for text in texts:
                    answers[text] = f.IsOneOf(await self._ids(account_id, mailboxes, text))
        except TimeoutError:
            raise TimedOut("The search took too long; narrow it to a mailbox") from None
        return f.with_answers(tree, answers)

    async def _mailboxes(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> list[Mailbox]:
        """Where a match can lie: mailboxes that the caller sees and the filter demands."""
        demanded = demanded_mailboxes(tree)
        return [
            one
            for one in await self._index.mailboxes(account_id)
            if one.is_selectable and caller.sees_mailbox(one.id) and (demanded is None or one.id in demanded)
        ]

    async def _ids(self, account_id: AccountId, mailboxes: Sequence[Mailbox], text: f.Text) -> list[MessageId]:
        backend = await self._backends.of(account_id)

        async def search(mailbox: Mailbox) -> list[MessageId]:
            uids = await backend.search(mailbox, text.scope, text.value)
            return await self._index.ids_at(account_id, mailbox.id, uids) if uids else []

        found = await together(map(search, mailboxes), MAILBOXES_AT_A_TIME)
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
