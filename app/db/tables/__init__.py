"""The schema. Every hot table's key begins with account_id.

Times are ms since 1970 UTC (`_ms`). Flags are IMAP flags in one string, separated by spaces, sorted. Columns that
hold JSON are text or bytes: they are written and read unchanged, never queried.

This package exports the tables for SQLAlchemy Core, from which statements are built (`MESSAGE.c.uid`).
"""

from app.db.tables.access import CONNECT_SESSION, ENDED_ORIGIN, OAUTH_APP, OAUTH_GRANT, TICKET, TOKEN
from app.db.tables.accounts import ACCOUNT, LEASE
from app.db.tables.finding import SEARCH_TEXT, THREAD_ALIAS, THREAD_LINK
from app.db.tables.installation import INSTALLATION
from app.db.tables.log import CONSUMER, DEPARTED, EVENT, TOMBSTONE
from app.db.tables.mail import DETAIL, MAILBOX, MESSAGE, PLACEMENT, POP3_MESSAGE, SUBSCRIBED_NAME, UNINDEXED
from app.db.tables.requests import COMMIT_MARK, IDEMPOTENCY, SUBMISSION

__all__ = [
    "ACCOUNT",
    "COMMIT_MARK",
    "CONNECT_SESSION",
    "CONSUMER",
    "DEPARTED",
    "DETAIL",
    "ENDED_ORIGIN",
    "EVENT",
    "IDEMPOTENCY",
    "INSTALLATION",
    "LEASE",
    "MAILBOX",
    "MESSAGE",
    "OAUTH_APP",
    "OAUTH_GRANT",
    "PLACEMENT",
    "POP3_MESSAGE",
    "SEARCH_TEXT",
    "SUBMISSION",
    "SUBSCRIBED_NAME",
    "THREAD_ALIAS",
    "THREAD_LINK",
    "TICKET",
    "TOKEN",
    "TOMBSTONE",
    "UNINDEXED",
]
