"""A post office on one database: who lives there, the next server, and what tests do with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from app.backends.local import LocalBackend
from app.db import submissions as rows
from app.db.session import Transaction
from app.mail.backend import MailBackend, OutgoingMail, RecipientResult, Submission, Verdict
from app.mail.types import AccountId, ServerLogin
from app.services.sending.deliveries import Deliveries, Outgoing
from app.services.sending.submissions import Recipient, recipients_of
from app.workers.delivery import Delivery

from tests.contract.stores import Stores, message, open_stores

BEFORE_CONTENT = Callable[[], Awaitable[None]] | None


@dataclass
class NextServer:
    """A Submission that answers as it is told; `sent` is what it was given. It waits for `may_answer` after content."""

    host = "next.example:587"
    verdicts: dict[str, RecipientResult] = field(default_factory=dict)
    failure: Exception | None = None
    sent: list[OutgoingMail] = field(default_factory=list)
    before: Callable[[], Awaitable[None]] | None = None
    has_content: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    def says(self, address: str, verdict: Verdict, code: str | None = None, response: str | None = None) -> None:
        self.verdicts[address] = RecipientResult(address, verdict, code, response)

    async def send(self, mail: OutgoingMail, before_content: BEFORE_CONTENT = None) -> Sequence[RecipientResult]:
        if self.failure is not None:
            raise self.failure
        if self.before is not None:
            await self.before()
        results = [self.verdicts.get(one, RecipientResult(one, Verdict.ACCEPTED)) for one in mail.recipients]
        if before_content is not None and any(one.verdict is not Verdict.REFUSED for one in results):
            await before_content()
            self.sent.append(mail)
            self.has_content.set()
            await self.may_answer.wait()
        return results

    async def verify(self) -> None:
        """Never asked for."""


@dataclass
class Office:
    """A post office on one database: Ann lives here, and one server takes all other mail."""

    stores: Stores
    next_server: NextServer
    deliveries: Deliveries
    ann: AccountId

    # ---- what Backends does

    async def of(self, account_id: AccountId) -> MailBackend:
        stores = self.stores
        return LocalBackend(account_id, stores.store, stores.reader, stores.database, stores.bus)

    async def submission_of(self, account_id: AccountId) -> Submission:
        return self.next_server

    async def verify(self, logins: Mapping[str, ServerLogin]) -> None:
        """Never asked for."""

    async def forget(self, account_id: AccountId) -> None:
        """Never asked for."""

    async def forget_changed(self) -> None:
        """No other process changes an account."""

    # ---- what tests do

    @property
    def address(self) -> str:
        return f"{self.ann}@demo.test"

    async def submit(self, *recipients: str, sender: str | None = None) -> str:
        """As a mail program does."""
        content = await self.stores.store.keep(message(1))
        sender = self.address if sender is None else sender
        known = {row.id for row in await rows.page(self.stores.database, self.ann, 100)}
        await self.deliveries.deliver(content, [], Outgoing(self.ann, sender, recipients, "<1@example.com>"))
        (new,) = {row.id for row in await rows.page(self.stores.database, self.ann, 100)} - known
        return new

    async def row(self, id_: str) -> rows.Submission:
        row = await rows.get(self.stores.database, self.ann, id_)
        assert row is not None
        return row

    async def set(self, id_: str, **changes: object) -> rows.Submission:
        """Change a row as time would."""
        before = await self.row(id_)

        async def work(transaction: Transaction) -> None:
            assert await rows.change(transaction, before, changes)

        await self.stores.database.write(work)
        return await self.row(id_)

    async def recipients(self, id_: str) -> tuple[Recipient, ...]:
        return recipients_of((await self.row(id_)).recipients)

    def delivery(self) -> Delivery:
        stores = self.stores
        return Delivery(
            stores.database, stores.index, stores.reader, stores.store, self, self.deliveries, stores.bus,
            hostname="mail.demo.test", is_alone=True,
        )  # fmt: skip

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.delivery().run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, id_: str, is_met: Callable[[rows.Submission], bool]) -> rows.Submission:
        for _ in range(1000):
            if is_met(row := await self.row(id_)):
                return row
            await asyncio.sleep(0.01)
        raise AssertionError(row)

    async def attempt(self, id_: str) -> rows.Submission:
        """What a submission is after an attempt."""
        before = (await self.row(id_)).attempts
        async with self.at_work():
            return await self.until(
                id_,
                lambda row: row.attempts > before and row.status != "sending" and row.phase not in ("sent", "filing"),
            )

    async def inbox(self, account_id: AccountId | None = None, path: str = "INBOX") -> list[Message]:
        account_id = account_id or self.ann
        mailbox = await self.stores.mailbox(account_id, path)
        uids = sorted(await self.stores.reader.mirrored.known(account_id, mailbox.id))
        found = await self.stores.reader.messages.locate(account_id, mailbox.id, uids)
        return [message_from_bytes(await self.stores.store.blobs.get(one.blob or "")) for one in found]

    async def events(self, id_: str) -> list[str]:
        return [one.type for one in await self.stores.log.after(self.ann, 0, 100) if one.subject == id_]


@asynccontextmanager
async def open_office(folder: Path, database_url: str | None) -> AsyncIterator[Office]:
    async with open_stores(folder, database_url) as stores:
        deliveries = Deliveries(stores.database, stores.index, stores.store, stores.bus, ["demo.test"])
        yield Office(stores, NextServer(), deliveries, await stores.add_account())
