"""The stores of one test: a database of either kind, with an index, an embedded store and one account on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.cluster.bus import LocalBus
from app.db import directory
from app.db.migrate import open_database
from app.db.session import Database, Transaction
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId, AccountKind, Mailbox
from app.mailstore.blobs import Blobs
from app.mailstore.index import Index
from app.mailstore.log import EventLog
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.services.accounts.rows import new_values
from app.settings import Settings

from tests.harness import database_file


@dataclass
class Stores:
    database: Database
    bus: LocalBus
    index: Index
    log: EventLog
    store: MailStore

    @property
    def reader(self) -> MailReader:
        return MailReader(self.database)

    async def add_account(self, kind: AccountKind = AccountKind.EMBEDDED) -> AccountId:
        """An account with its first mailboxes, where it lives here."""
        account_id = AccountId(new_id("acc"))
        email = f"{account_id}@demo.test"

        async def work(transaction: Transaction) -> None:
            await directory.add(transaction, new_values(account_id, kind, email, "", now_ms()))

        await self.database.write(work)
        if kind is AccountKind.EMBEDDED:
            await self.store.mailboxes.create_first(account_id)
        return account_id

    async def mailbox(self, account_id: AccountId, path: str) -> Mailbox:
        return next(one for one in await self.reader.mailboxes.mailboxes(account_id) if one.path == path)


@asynccontextmanager
async def open_stores(folder: Path, database_url: str | None) -> AsyncIterator[Stores]:
    if database_url is None:
        database_file(folder)
    database = await open_database(Settings(data_dir=folder, database_url=database_url))
    try:
        bus = LocalBus()
        index = Index(database, bus)
        store = MailStore(database, index, Blobs(folder / "blobs"))
        yield Stores(database, bus, index, EventLog(database), store)
    finally:
        await database.close()


def message(number: int, subject: str = "Hello", extra: str = "") -> bytes:
    """A small message, each number another one."""
    return (
        f"From: Ann <ann@example.com>\r\nTo: me@demo.test\r\nSubject: {subject}\r\n"
        f"Message-ID: <{number}@example.com>\r\nDate: Tue, 24 Nov 2026 06:00:00 +0000\r\n{extra}\r\nText {number}\r\n"
    ).encode()
