"""Content that arrives later than its message's row, and whether a POP3 server still has a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import BindParameter, bindparam, delete, select, update

from app.db.row_types import RowType
from app.db.session import Statement
from app.db.tables import DETAIL, MESSAGE
from app.mail.delta import Arrived, Completed, Location, OnServer
from app.mail.events import MessageUpdated
from app.mail.searchable import TextState
from app.mail.summaries import patched
from app.mail.types import MessageId, ThreadId
from app.mailstore.changes.arrivals import ADD_DETAIL
from app.mailstore.changes.context import ChangeContext
from app.mailstore.changes.threads import ThreadAssignment
from app.mailstore.rows import detail_values, message_values

_ACCOUNT: BindParameter[str] = bindparam("account_id")


@dataclass(frozen=True, slots=True)
class _Message:
    id: MessageId
    thread_id: ThreadId
    summary: bytes
    text_state: int


_MESSAGES = RowType(_Message, MESSAGE)
_AT: Statement = select(*_MESSAGES.columns).where(
    MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id"), MESSAGE.c.uid == bindparam("uid")
)
_KEY = (MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("key"))
_CONTENT = ("size_bytes", "has_attachments", "blob", "preview", "text_state")
"""The columns that the header alone did not give; the header's own columns stay."""
_HEADER = (
    "thread_id", "received_at_ms", "date_ms", "message_id_header", "origin_id", "subject_folded", "from_folded",
    "to_folded", "cc_folded", "bcc_folded",
)  # fmt: skip
"""Further columns that were empty while the message could not be read."""
_SHOWN = (
    "subject", "from", "to", "cc", "reply_to", "date", "received_at", "message_id_header", "in_reply_to", "references",
    "thread_id",
)  # fmt: skip
"""The same in the summary."""
_CHANGED: dict[str, BindParameter[int]] = {name: bindparam("version") for name in ("other_seq", "changed_seq")}
_SET_CONTENT: Statement = (
    update(MESSAGE)
    .where(*_KEY)
    .values({name: bindparam(name) for name in (*_CONTENT, "version", "summary")} | _CHANGED)
)
_SET_WHOLE: Statement = (
    update(MESSAGE)
    .where(*_KEY)
    .values({name: bindparam(name) for name in (*_CONTENT, *_HEADER, "version", "summary")} | _CHANGED)
)
_SET_SUMMARY: Statement = (
    update(MESSAGE).where(*_KEY).values({name: bindparam(name) for name in ("version", "summary")} | _CHANGED)
)
_DROP_DETAIL: Statement = delete(DETAIL).where(DETAIL.c.account_id == _ACCOUNT, DETAIL.c.id == bindparam("key"))


class HeldChanges:
    """Applies these facts; facts about removed messages are ignored."""

    def __init__(self, ledger: ChangeContext, threads: ThreadAssignment) -> None:
        self._ledger = ledger
        self._threads = threads

    async def complete(self, completed: Completed) -> None:
        """Replace the data from the header, or the reason why the message was unread, by its content."""
        message, content = await self._message(completed.location), completed.content
        if message is None:
            return
        if content.unread is not None:
            await self._write_detail(message.id, content)
            return
        was_unread = message.text_state == TextState.UNREAD
        thread_id = (await self._threads.assign([content]))[0] if was_unread else message.thread_id
        values = message_values(self._ledger.account_id, message.id, thread_id, content)
        summary_ = orjson.loads(values["summary"])
        fields = {name: summary_[name] for name in ("size_bytes", "has_attachments", "preview")}
        changed_fields = fields | {name: summary_[name] for name in (_SHOWN if was_unread else ())}
        seq = self._updated(message.id, message.summary, completed.location, list(changed_fields), fields)
        await self._ledger.execute(
            _SET_WHOLE if was_unread else _SET_CONTENT,
            key=message.id,
            version=seq,
            summary=patched(message.summary, **changed_fields),
            **{name: values[name] for name in (*_CONTENT, *(_HEADER if was_unread else ()))},
        )
        self._ledger.thread_touched(message.thread_id, has_lost=thread_id != message.thread_id)
        self._ledger.thread_touched(thread_id)
        await self._write_detail(message.id, content)

    async def _write_detail(self, id_: MessageId, content: Arrived) -> None:
        await self._ledger.execute(_DROP_DETAIL, key=id_)
        await self._ledger.tx.execute(ADD_DETAIL, **detail_values(self._ledger.account_id, id_, content))

    async def hold(self, change: OnServer) -> None:
        """Set whether the server still has a message."""
        message = await self._message(change.location)
        if message is None or orjson.loads(message.summary).get("on_server") is change.is_on_server:
            return
        facts = {"on_server": change.is_on_server}
        seq = self._updated(message.id, message.summary, change.location, facts, facts)
        await self._ledger.execute(
            _SET_SUMMARY,
            key=message.id,
            version=seq,
            summary=patched(message.summary, **facts),
        )

    async def _message(self, at: Location) -> _Message | None:
        return _MESSAGES.read_optional(await self._ledger.row(_AT, mailbox_id=at.mailbox_id, uid=at.uid))

    def _updated(self, id_: str, summary: bytes, at: Location, changed: Iterable[str], facts: Mapping[str, Any]) -> int:
        keywords = orjson.loads(summary)["keywords"]
        event = replace(MessageUpdated(at.mailbox_id, id_, list(changed), keywords), **facts)
        return self._ledger.event(event, id_, at=at)
