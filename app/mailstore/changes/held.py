"""What a Delta says of messages that came from a POP3 server: completed, and whether the server holds them still."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from sqlalchemy import BindParameter, bindparam, delete, select, update

from app.db.session import Row, Statement
from app.db.tables import DETAIL, MESSAGE
from app.mail.delta import Completed, Held, Location
from app.mail.searchable import TextState
from app.mail.types import MessageId, ThreadId
from app.mailstore.changes.arrivals import ADD_DETAIL
from app.mailstore.changes.ledger import Ledger
from app.mailstore.rows import detail_values, message_values, patched

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_AT: Statement = select(MESSAGE.c.id, MESSAGE.c.thread_id, MESSAGE.c.summary).where(
    MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id"), MESSAGE.c.uid == bindparam("uid")
)
_KEY = (MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("key"))
_CONTENT = ("size_bytes", "has_attachments", "blob", "preview", "text_state")
"""What the header alone did not tell; the header's own fields stay as they are."""
_CHANGED: dict[str, BindParameter[int]] = {name: bindparam("version") for name in ("other_seq", "changed_seq")}
_SET_CONTENT: Statement = (
    update(MESSAGE)
    .where(*_KEY)
    .values({name: bindparam(name) for name in (*_CONTENT, "version", "summary")} | _CHANGED)
)
_SET_SUMMARY: Statement = (
    update(MESSAGE).where(*_KEY).values({name: bindparam(name) for name in ("version", "summary")} | _CHANGED)
)
_DROP_DETAIL: Statement = delete(DETAIL).where(DETAIL.c.account_id == _ACCOUNT, DETAIL.c.id == bindparam("key"))


class HeldChanges:
    """Applies these facts; what is about a message that is gone is passed over."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def complete(self, completed: Completed) -> None:
        """Put a message's content in the place of what its header alone told."""
        row = await self._row(completed.location)
        if row is None:
            return
        id_, thread_id, summary = row
        values = message_values(self._ledger.account_id, MessageId(id_), ThreadId(thread_id), completed.content)
        told = orjson.loads(values["summary"])
        fields = {name: told[name] for name in ("size_bytes", "has_attachments", "preview")}
        seq = self._updated(id_, summary, completed.location, list(fields), fields)
        await self._ledger.execute(
            _SET_CONTENT,
            key=id_,
            version=seq,
            summary=patched(summary, **fields),
            **{name: values[name] for name in _CONTENT} | {"text_state": TextState.AWAITED},
        )
        self._ledger.thread_touched(thread_id)
        await self._ledger.execute(_DROP_DETAIL, key=id_)
        await self._ledger.tx.execute(ADD_DETAIL, **detail_values(self._ledger.account_id, id_, completed.content))

    async def hold(self, held: Held) -> None:
        """Say whether the server holds a message."""
        row = await self._row(held.location)
        if row is None or orjson.loads(row[2]).get("on_server") is held.is_on_server:
            return
        id_, _, summary = row
        facts = {"on_server": held.is_on_server}
        seq = self._updated(id_, summary, held.location, facts, facts)
        await self._ledger.execute(
            _SET_SUMMARY,
            key=id_,
            version=seq,
            summary=patched(summary, **facts),
        )

    async def _row(self, at: Location) -> Row | None:
        return await self._ledger.row(_AT, mailbox_id=at.mailbox_id, uid=at.uid)

    def _updated(
        self, id_: str, summary: bytes, at: Location, changed: Iterable[str], facts: Mapping[str, object]
    ) -> int:
        told = {"mailbox_id": at.mailbox_id, "message_id": id_, "changed": list(changed)}
        keywords = {"keywords": orjson.loads(summary)["keywords"]}
        return self._ledger.event("message.updated", id_, {**told, **keywords, **facts}, at=at)
