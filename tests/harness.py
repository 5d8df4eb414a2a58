"""A whole Postgate store in a temporary folder, as the embedded servers see it: accounts, index, message bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from app import files
from app.cluster.bus import LocalBus
from app.db.migrate import migrate, open_database, sqlite_path
from app.db.session import Database, Statement, Transaction
from app.db.sqlite import SqliteDatabase
from app.db.tables import ACCOUNT
from app.mail.identifiers import new_id
from app.mail.types import AccountId, Mailbox
from app.mailstore.blobs import Blobs
from app.mailstore.index import Index
from app.mailstore.log import EventLog
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.services.access.logins import Logins
from app.services.sending.deliveries import Deliveries
from app.settings import Settings
from argon2 import PasswordHasher
from sqlalchemy import bindparam, delete, insert, update

DOMAIN = "demo.test"
FAST_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_ADD_ACCOUNT: Statement = insert(ACCOUNT)
_REMOVE_ACCOUNT: Statement = delete(ACCOUNT).where(ACCOUNT.c.id == bindparam("account_id"))
_DISABLE_ACCOUNT: Statement = update(ACCOUNT).where(ACCOUNT.c.id == bindparam("account_id")).values(status="disabled")


@dataclass(frozen=True, slots=True)
class Harness:
    """The parts that servers and services are made of, on SQLite. `waits` records what logins slept, in seconds."""

    database: Database
    bus: LocalBus
    index: Index
    store: MailStore
    log: EventLog
    logins: Logins
    deliveries: Deliveries
    waits: list[float]

    @property
    def reader(self) -> MailReader:
        return MailReader(self.database)

    async def add_account(self, email: str, password: str = "secret") -> AccountId:
        """An embedded account with the mailboxes that everyone has."""
        account_id = AccountId(new_id("acc"))
        values = {"id": account_id, "kind": "embedded", "status": "ready", "email": email, "address": email.lower()}
        password_hash = await self.logins.hash(password)

        async def work(transaction: Transaction) -> None:
            await transaction.execute_many(_ADD_ACCOUNT, [{**_EMPTY, **values, "password_hash": password_hash}])

        await self.database.write(work)
        await self.store.mailboxes.create_first(account_id)
        return account_id

    async def remove_account(self, account_id: AccountId) -> None:
        """Take the account's row away; what was its mail stays behind, out of reach."""
        await self._execute(_REMOVE_ACCOUNT, account_id)

    async def disable_account(self, account_id: AccountId) -> None:
        await self._execute(_DISABLE_ACCOUNT, account_id)

    async def _execute(self, statement: Statement, account_id: AccountId) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute(statement, account_id=account_id)

        await self.database.write(work)

    async def mailbox(self, account_id: AccountId, path: str = "INBOX") -> Mailbox:
        return next(one for one in await self.reader.mailboxes.mailboxes(account_id) if one.path == path)

    async def contents(self, account_id: AccountId, path: str = "INBOX") -> list[bytes]:
        """The bytes of each message in a mailbox, oldest first."""
        mailbox = await self.mailbox(account_id, path)
        found = await self.reader.messages.locate(
            account_id, mailbox.id, sorted(await self.reader.mirrored.known(account_id, mailbox.id))
        )
        return [await self.store.blobs.get(one.blob or "") for one in sorted(found, key=lambda one: one.uid)]


_EMPTY: dict[str, object] = {
    "name": "",
    "sync_status": "live",
    "sync_mode": "embedded",
    "checked_at_ms": 0,
    "last_seq": 0,
    "first_seq": 0,
    "first_event_ms": 0,
    "last_event_ms": 0,
    "last_uid_validity": 0,
    "servers": "",
    "secrets": None,
    "credentials_version": 0,
    "settings": "",
    "quotas": "",
    "created_at_ms": 0,
}


@cache
def _empty_database() -> bytes:
    """A database file with the schema and nothing in it, made once a process."""
    with TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        migrate(settings)
        return sqlite_path(settings).read_bytes()


def database_file(folder: Path) -> Path:
    """The SQLite database of a folder; a new one is a copy of one that has the schema, which saves the migrations."""
    path = folder / "postgate.sqlite3"
    if not path.exists():
        files.make_directory(folder)
        files.touch(path)
        path.write_bytes(_empty_database())
    return path


async def _open(folder: Path, database_url: str | None) -> Database:
    if database_url is None:
        return SqliteDatabase(database_file(folder))
    return await open_database(Settings(data_dir=folder, database_url=database_url))


@asynccontextmanager
async def open_harness(folder: Path, database_url: str | None = None) -> AsyncIterator[Harness]:
    """A Harness in a folder, a new one where there is none yet; closed at the end. With a URL its rows are there."""
    database = await _open(folder, database_url)
    bus = LocalBus()
    index = Index(database, bus)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    store = MailStore(database, index, Blobs(folder / "blobs"))
    try:
        yield Harness(
            database,
            bus,
            index,
            store,
            EventLog(database),
            Logins(database, FAST_HASHER, sleep=sleep),
            Deliveries(database, index, store, bus, [DOMAIN]),
            waits,
        )
    finally:
        await database.close()
