"""Text facts of a Delta: added to the full-text index, or left out of it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from sqlalchemy import BindParameter, bindparam, func, insert, select, update

from app.db.session import Statement, is_one_of, json_list, value_of
from app.db.tables import DETAIL, MESSAGE, SEARCH_TEXT
from app.mail.delta import TextExtracted
from app.mail.searchable import TextState
from app.mail.types import MailboxId
from app.mailstore.changes.context import ChangeContext
from app.mailstore.search import search_range

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_WAITING: Statement = select(MESSAGE.c.uid, MESSAGE.c.id, MESSAGE.c.received_at_ms).where(
    MESSAGE.c.account_id == _ACCOUNT,
    MESSAGE.c.mailbox_id == bindparam("mailbox_id"),
    is_one_of(MESSAGE.c.uid, bindparam("uids")),
    MESSAGE.c.text_state.in_((int(TextState.AWAITED), int(TextState.LEFT_OUT))),
)
_SET_STATE: Statement = (
    update(MESSAGE)
    .where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("key"))
    .values(text_state=bindparam("text_state"))
)
_LAST_ID: Statement = select(func.max(SEARCH_TEXT.c.id)).where(
    SEARCH_TEXT.c.id >= bindparam("first"), SEARCH_TEXT.c.id <= bindparam("last")
)
_SET_DIGEST: Statement = (
    update(DETAIL)
    .where(DETAIL.c.account_id == _ACCOUNT, DETAIL.c.id == bindparam("key"))
    .values(digest=bindparam("digest"))
)
_ADD_TEXT: Statement = insert(SEARCH_TEXT)


class TextChanges:
    """Applies texts to messages whose text is not in the index yet."""

    def __init__(self, ledger: ChangeContext) -> None:
        self._ledger = ledger

    async def text(self, texted: Sequence[TextExtracted]) -> None:
        by_mailbox: dict[MailboxId, dict[int, TextExtracted]] = {}
        for item in texted:
            by_mailbox.setdefault(item.location.mailbox_id, {})[item.location.uid] = item
        for mailbox_id, facts in by_mailbox.items():
            rows = await self._ledger.rows(_WAITING, mailbox_id=mailbox_id, uids=json_list(list(facts)))
            for uid, message_id, received_at_ms in rows:
                await self._take(message_id, received_at_ms, facts[uid])

    async def _take(self, message_id: str, received_at_ms: int, item: TextExtracted) -> None:
        text = item.text
        if text is not None:
            await self._ledger.execute(
                _ADD_TEXT,
                id=await self._next_id(),
                message_id=message_id,
                received_at_ms=received_at_ms,
                size_bytes=text.size_bytes,
                shown=zlib.compress(text.shown.encode("utf-8", "replace"), 1),
                header=text.header,
                body=text.body,
            )
        if item.digest is not None:
            await self._ledger.execute(_SET_DIGEST, key=message_id, digest=item.digest)
        state = TextState.LEFT_OUT if text is None else TextState.INDEXED
        await self._ledger.execute(_SET_STATE, key=message_id, text_state=int(state))

    async def _next_id(self) -> int:
        first, last = search_range(self._ledger.account_id)
        last_id: int | None = value_of(await self._ledger.tx.row(_LAST_ID, first=first, last=last))
        return first if last_id is None else last_id + 1
