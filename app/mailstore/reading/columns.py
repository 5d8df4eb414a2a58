"""The columns that reads of messages share, in the order of `rows.message_of`, and their bounds."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam

from app.db.row_types import RowType
from app.db.tables import MESSAGE
from app.mail.types import Message

ACCOUNT_ID: BindParameter[str] = bindparam("account_id")
OF_ACCOUNT = MESSAGE.c.account_id == ACCOUNT_ID
IN_MAILBOX = MESSAGE.c.mailbox_id == bindparam("mailbox_id")

MESSAGE_COLUMNS = RowType(Message, MESSAGE).columns
