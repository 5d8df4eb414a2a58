"""Reads the index. Each reader in `reading/` holds the statements of one subject; `index.Index` writes."""

from __future__ import annotations

from app.db.session import Database
from app.mailstore.reading.incomplete import IncompleteReader
from app.mailstore.reading.lists import ListReader
from app.mailstore.reading.mailboxes import MailboxReader
from app.mailstore.reading.messages import MessageReader
from app.mailstore.reading.mirrored import MirrorReader


class MailReader:
    """The readers of one database, for services and workers that need several of them."""

    def __init__(self, database: Database) -> None:
        self.mailboxes = MailboxReader(database)
        self.messages = MessageReader(database)
        self.lists = ListReader(database)
        self.mirrored = MirrorReader(database)
        self.incomplete = IncompleteReader(database)
