"""The keywords of an account's messages, and how many messages have each."""

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
    """A keyword in the API's spelling, and the number of messages that have it."""

    keyword: str
    total: int
    unread: int


class Keywords:
    """Counts the keywords of the messages that a caller sees."""

    def __init__(self, reader: MailReader) -> None:
        self._reader = reader

    async def page(
        self, account_id: AccountId, caller: Caller, limit: int | None, after: str | None
    ) -> tuple[Sequence[KeywordUse], str | None]:
        """Return keywords by name, those after a name, at most `limit`; and the last name if there are more."""
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
