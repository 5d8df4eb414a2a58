"""MailBackend of a POP3 account: its mail is stored in Postgate, and a worker downloads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from typing_extensions import override

from app.backends.local import LocalBackend
from app.backends.pop3.opening import Pop3Origin
from app.backends.pop3.session import Pop3Session
from app.cluster.bus import Bus, listening
from app.db.session import Database, Transaction
from app.errors import Unreachable
from app.mail.confirmed import Applied
from app.mail.pop3 import Keeping, Pop3Rules, poll_topic
from app.mail.types import AccountId, Message
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore

DOWNLOAD_SECONDS = 30.0
"""How long a reader waits for a message of which only the header is stored."""


class Pop3Backend(LocalBackend):
    """Implements `MailBackend`. Opens one session with the server at a time."""

    def __init__(
        self,
        account_id: AccountId,
        origin: Pop3Origin,
        rules: Pop3Rules,
        store: MailStore,
        reader: MailReader,
        database: Database,
        bus: Bus,
    ) -> None:
        super().__init__(account_id, store, reader, database, bus)
        self.origin = origin
        self.rules = rules
        self.store = store
        self.database = database
        self.bus = bus
        self._lock = asyncio.Lock()
        self._capabilities: list[str] | None = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Pop3Session]:
        """A session with the server. Without QUIT it deletes nothing. Raises what `Pop3Origin.open` raises."""
        async with self._lock, self.origin.turns:
            session = await self.origin.open()
            self._capabilities = session.capabilities.names()
            try:
                yield session
            finally:
                session.close()

    @override
    async def capabilities(self) -> Sequence[str]:
        """Capabilities of the POP3 server."""
        if self._capabilities is None:
            async with self.session() as session:
                await session.quit()
        return self._capabilities or []

    @override
    async def _removed(self, transaction: Transaction, applied: Applied) -> None:
        if self.rules.retention.keeping is Keeping.MIRROR_DELETE:
            transaction.after_commit(partial(self.bus.poke, poll_topic(self._account_id)))

    @override
    async def _blob(self, message: Message) -> str:
        """Wait for the worker if the content is missing. Raises Unreachable if it does not arrive in time."""
        with listening(self.bus, self._account_id) as waiter:
            try:
                async with asyncio.timeout(DOWNLOAD_SECONDS):
                    while (blob := (await self._reader.messages.message(self._account_id, message.id)).blob) is None:
                        self.bus.poke(poll_topic(self._account_id))
                        await waiter.wait()
            except TimeoutError:
                raise Unreachable("The message has not been downloaded from its mail server yet") from None
        return blob
