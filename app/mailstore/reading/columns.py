"""What the reads of messages share: the columns that `rows.message_of` takes, and their bounds."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam

from app.db.tables import MESSAGE

ACCOUNT_ID: BindParameter[str] = bindparam("account_id")
OF_ACCOUNT = MESSAGE.c.account_id == ACCOUNT_ID
IN_MAILBOX = MESSAGE.c.mailbox_id == bindparam("mailbox_id")

MESSAGE_COLUMNS = (
    MESSAGE.c.account_id, MESSAGE.c.id, MESSAGE.c.mailbox_id, MESSAGE.c.uid, MESSAGE.c.modseq, MESSAGE.c.version,
    MESSAGE.c.flags, MESSAGE.c.received_at_ms, MESSAGE.c.size_bytes, MESSAGE.c.thread_id, MESSAGE.c.message_id_header,
    MESSAGE.c.preview, MESSAGE.c.blob, MESSAGE.c.summary, MESSAGE.c.further,
)  # fmt: skip
