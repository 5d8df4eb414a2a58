"""The keywords that an account's messages have, and how many have each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.mail import filter as f
from app.mail.types import SEEN, AccountId, keywords_of
from app.mailstore.reader import MailReader
from app.services.access.callers import Caller
from app.services.reading.listing import limited_to
from app.services.reading.pages import page_after


@dataclass(frozen=True, slots=True)
class KeywordUse:
    """A keyword as the API names it, and the messages that have it."""

    keyword: str
    total: int
    unread: int


class Keywords:
    """Counts keywords, as far as a caller sees the messages."""

    def __init__(self, reader: MailReader) -> None:
        self._reader = reader

    async def page(
        self, account_id: AccountId, caller: Caller, limit: int | None, after: str | None
    ) -> tuple[Sequence[KeywordUse], str | None]:
        """By name, those after a name, `limit` at most; and the last name, where there are more."""
        return page_after(await self._used(account_id, caller), lambda use: use.keyword, limit, after)

    async def _used(self, account_id: AccountId, caller: Caller) -> list[KeywordUse]:
        total: Counter[str] = Counter()
        unread: Counter[str] = Counter()
        for stored, count in await self._reader.lists.flag_counts(account_id, limited_to(f.All(()), caller)):
            flags = frozenset(stored.split())
            for keyword in keywords_of(flags):
                total[keyword] += count
                unread[keyword] += count if SEEN not in flags else 0
        return [KeywordUse(keyword, total[keyword], unread[keyword]) for keyword in sorted(total)]
