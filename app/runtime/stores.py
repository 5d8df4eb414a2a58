"""Opens the stores: the database, the blobs, and the objects that read and write them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from app.cluster.bus import LocalBus
from app.cluster.followers import Followers
from app.db.epoch import WatchedDatabase, open_epoch
from app.db.migrate import open_database
from app.db.session import Database
from app.ending import close_within
from app.mail.protocol_log import ProtocolLogs
from app.mailstore.blobs import Blobs
from app.mailstore.index import Index
from app.mailstore.log import EventLog
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.parsing.pool import ParserPool
from app.runtime.installation import open_vault
from app.security.vault import Vault
from app.settings import Settings
from app.workers.epoch import EpochKeeper


@dataclass(slots=True)
class Stores:
    """The stores that all services and workers use."""

    settings: Settings
    database: Database
    bus: LocalBus
    index: Index
    reader: MailReader
    log: EventLog
    store: MailStore
    vault: Vault
    epoch: str = ""
    restored_at_ms: int = 0
    keeper: EpochKeeper | None = None
    traces: ProtocolLogs = field(default_factory=ProtocolLogs)
    followers: Followers = field(init=False)

    def __post_init__(self) -> None:
        self.followers = Followers(self.bus)

    @property
    def is_alone(self) -> bool:
        """Whether no other process works on this database."""
        return self.settings.database_url is None


async def open_stores(settings: Settings, stack: AsyncExitStack, *, is_serving: bool) -> Stores:
    opened = await open_database(settings, is_sole=is_serving)
    stack.push_async_callback(close_within, "database", opened.close)
    record = await open_epoch(settings, opened)
    keeper = EpochKeeper(settings, opened)
    stack.push_async_callback(close_within, "epoch", keeper.close)
    vault = await open_vault(settings, opened, record)
    database = WatchedDatabase(opened, keeper.wake)
    parsers = ParserPool()
    stack.push_async_callback(close_within, "parsers", parsers.close)
    bus = LocalBus()
    index = Index(database, bus)
    blobs = await asyncio.to_thread(Blobs, settings.data_dir / "blobs")
    if is_serving:
        blobs.forget_unfinished()
    return Stores(
        settings,
        database,
        bus,
        index,
        MailReader(database),
        EventLog(database),
        MailStore(database, index, blobs, parsers),
        vault,
        record.epoch,
        record.restored_at_ms,
        keeper,
    )
