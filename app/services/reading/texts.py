"""Text conditions: the full-text index answers for the messages that it has, the mail server for the others.

A search waits for the server only briefly, then returns the results of the index and of the server so far. A change
of all matching messages must miss none: it waits longer, and fails rather than being incomplete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.errors import InvalidRequest, MailServerError, SearchIncomplete
from app.mail import filter as f
from app.mail.backend import Backends, MailBackend
from app.mail.searchable import fold
from app.mail.types import AccountId, Mailbox, MessageId
from app.mailstore.reader import MailReader
from app.mailstore.texts import TextIndex
from app.services.access.callers import Caller
from app.services.reading.concurrency import together

TEXTS_LIMIT = 10
"""Different texts in one search."""
MAILBOXES_AT_A_TIME = 4
UIDS_AT_FIRST = 200
"""The newest messages, which the server is asked about in the first command; then twice as many each time."""
ORIGIN_SECONDS = 1.5
"""How long a search waits for messages outside the index."""
WHOLE_SECONDS = 30.0
"""How long a change of all matching messages waits."""


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """A filter without Text leaves. If not `is_complete`, it misses messages outside the index."""

    tree: f.Filter
    is_complete: bool


class Texts:
    """Replaces the Text leaves of a filter by their results."""

    def __init__(self, backends: Backends, reader: MailReader, text_index: TextIndex) -> None:
        self._backends = backends
        self._reader = reader
        self._text_index = text_index

    async def coverage(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> tuple[int, int] | None:
        """Return how many messages the index has, and how many there are.

        None for a filter without texts, and for a token limited to some mailboxes, because all messages are counted.
        """
        is_counted = caller.mailbox_ids is None and any(f.texts_in(tree))
        return await self._text_index.coverage(account_id) if is_counted else None

    async def whole(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> f.Filter:
        """Return the filter without Text leaves, for a change: it matches every message that the original matches.

        Raises InvalidRequest for too many texts; SearchIncomplete, MailServerError if some messages could not be
        examined.
        """
        search = self._server_search(account_id, tree)
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                await search.run(await self._unindexed(account_id, caller, tree))
        except TimeoutError:
            raise SearchIncomplete from None
        return (await self._answered(account_id, tree, search)).tree

    async def answered(
        self, account_id: AccountId, caller: Caller, tree: f.Filter, seconds: float | None = None
    ) -> TextAnswer:
        """Like `whole`, for a search, which waits for the server at most `seconds` (None: `ORIGIN_SECONDS`)."""
        search = self._server_search(account_id, tree)
        with suppress(TimeoutError, MailServerError):
            async with asyncio.timeout(ORIGIN_SECONDS if seconds is None else seconds):
                await search.run(await self._unindexed(account_id, caller, tree))
        return await self._answered(account_id, tree, search)

    def _server_search(self, account_id: AccountId, tree: f.Filter) -> _ServerSearch:
        texts = set(f.texts_in(tree))
        if len(texts) > TEXTS_LIMIT:
            raise InvalidRequest.at("/filter", f"At most {TEXTS_LIMIT} conditions on body, text or header are allowed")
        return _ServerSearch(self._backends, self._reader, account_id, texts)

    async def _answered(self, account_id: AccountId, tree: f.Filter, search: _ServerSearch) -> TextAnswer:
        """Combine the index's results with those found on the server."""
        answers: dict[f.Text, f.Filter] = {}
        for text, found in search.found.items():
            answers[text] = f.Any((await self._by_index(account_id, text), f.IsOneOf(found)))
        if search.is_complete:
            return TextAnswer(f.with_answers(tree, answers), is_complete=True)
        possible = {text: f.Any((answer, f.Unindexed())) for text, answer in answers.items()}
        return TextAnswer(f.with_answers(tree, answers, possible), is_complete=False)

    async def _unindexed(
        self, account_id: AccountId, caller: Caller, tree: f.Filter
    ) -> list[tuple[Mailbox, Sequence[int]]]:
        """Return what to ask the server about: UIDs in mailboxes that the caller sees and the filter demands."""
        uids = await self._text_index.unindexed(account_id) if any(f.texts_in(tree)) else {}
        demanded = demanded_mailboxes(tree)
        return [
            (mailbox, uids[mailbox.id])
            for mailbox in (await self._reader.mailboxes.mailboxes(account_id) if uids else ())
            if mailbox.id in uids
            and mailbox.is_selectable
            and caller.sees_mailbox(mailbox.id)
            and (demanded is None or mailbox.id in demanded)
        ]

    async def _by_index(self, account_id: AccountId, text: f.Text) -> f.Filter:
        folded = fold(text.value)
        if not text.scope.startswith("header:"):
            return f.IndexedText(account_id, text.scope, folded)
        name = text.scope.removeprefix("header:")
        return f.IsOneOf(await self._text_index.with_field(account_id, name, folded))


class _ServerSearch:
    """Asks the server for texts in messages outside the index; `found` grows while it runs."""

    def __init__(self, backends: Backends, reader: MailReader, account_id: AccountId, texts: Iterable[f.Text]) -> None:
        self.found: dict[f.Text, list[MessageId]] = {text: [] for text in texts}
        self.is_complete = False
        self._backends = backends
        self._reader = reader
        self._account_id = account_id

    async def run(self, unindexed: Sequence[tuple[Mailbox, Sequence[int]]]) -> None:
        """Search all of them. Raises MailServerError."""
        if unindexed:
            backend = await self._backends.of(self._account_id)
            await together((self._search_in(backend, *mailbox) for mailbox in unindexed), MAILBOXES_AT_A_TIME)
        self.is_complete = True

    async def _search_in(self, backend: MailBackend, mailbox: Mailbox, uids: Sequence[int]) -> None:
        for some in _newest_first(uids):
            for text, found in self.found.items():
                uids_found = await backend.search(mailbox, text.scope, text.value, some)
                found.extend(
                    await self._reader.messages.ids_at(self._account_id, mailbox.id, uids_found) if uids_found else ()
                )


def _newest_first(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the UIDs in pieces, each twice as large: the first soon, and all in few commands."""
    ordered = sorted(uids, reverse=True)
    start, size = 0, UIDS_AT_FIRST
    while start < len(ordered):
        yield ordered[start : start + size]
        start, size = start + size, size * 2


def demanded_mailboxes(tree: f.Filter) -> set[str] | None:
    """Return the mailboxes outside of which nothing can match; None if the filter demands none."""
    match tree:
        case f.InMailbox(mailbox_id):
            return {mailbox_id}
        case f.All(of):
            demands = [item for item in map(demanded_mailboxes, of) if item is not None]
            return set.intersection(*demands) if demands else None
        case f.Any(of):
            return _union([demanded_mailboxes(condition) for condition in of])
        case _:
            return None


def _union(demands: Iterable[set[str] | None]) -> set[str] | None:
    mailbox_ids: set[str] = set()
    for demand in demands:
        if demand is None:
            return None
        mailbox_ids |= demand
    return mailbox_ids
