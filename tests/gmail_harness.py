"""An account at the server that behaves as Gmail's does, followed in a Harness."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.mail.filter import All
from app.mail.types import Flags, Message, ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.harness import Harness, open_harness
from tests.servers.gmail import PASSWORD, USER, Gmail, running_gmail
from tests.sync_harness import Followed, add_remote_account


@dataclass
class GmailAccount(Followed):
    """Both sides: what Gmail has, and what the index knows of it."""

    gmail: Gmail = None  # type: ignore[assignment]
    fetched: int = 0

    async def message(self, subject: str) -> Message:
        """The one message with this subject."""
        (found,) = [one for one in await self.all_messages() if orjson.loads(one.summary)["subject"] == subject]
        return found

    async def all_messages(self) -> list[Message]:
        listed = await self.harness.reader.lists.search(self.account_id, All(()), limit=10_000)
        return await self.harness.reader.messages.find(self.account_id, [one.anchor.id for one in listed])

    async def paths_of(self, message: Message) -> list[str]:
        """The mailboxes that a message says it is in, sorted."""
        paths = {one.id: one.path for one in await self.harness.reader.mailboxes.mailboxes(self.account_id)}
        ids = orjson.loads(message.summary)["mailbox_ids"]  # one of them may have gone since the message was read
        return sorted(paths[id_] for id_ in ids if id_ in paths)

    async def labels(self) -> Mapping[str, list[str]]:
        """Subject → the mailboxes that it is in."""
        return {orjson.loads(one.summary)["subject"]: await self.paths_of(one) for one in await self.all_messages()}

    async def ids_by_subject(self) -> dict[str, str]:
        return {orjson.loads(one.summary)["subject"]: one.id for one in await self.all_messages()}

    async def has_fetched(self) -> bool:
        """Whether some messages more have come since this was last asked."""
        fetched, self.fetched = self.fetched, sum(self.gmail.fetched.values())
        return self.fetched > fetched or len(self.gmail.fetched) == len(self.gmail.store.mails)

    async def has_read_inbox(self) -> bool:
        """Whether the first sync of INBOX is done."""
        mailboxes = await self.harness.reader.mailboxes.mailboxes(self.account_id)
        return any(one.path == "INBOX" and one.is_complete for one in mailboxes)

    async def is_equal_anew(self) -> bool:
        """Whether the origin tells its backend what it has."""
        return await self.origin_content() == self.truth()

    async def settled(self) -> None:
        """Wait until the index is as Gmail is."""
        await self.until_live()
        await self.until(self.is_equal, True)

    async def is_equal(self) -> bool:
        return {path: box for path, box in (await self.content()).items() if path != "[Gmail]"} == self.truth()

    def truth(self) -> dict[str, dict[int, Flags]]:
        return self.gmail.store.content()


@asynccontextmanager
async def open_gmail(folder: Path, database_url: str | None = None) -> AsyncIterator[GmailAccount]:
    """A Harness with an account at Gmail, followed once `following` is entered."""
    async with running_gmail() as gmail, open_harness(folder, database_url) as harness:
        account_id = await add_remote_account(harness, USER)
        backend = gmail_backend(gmail, harness, account_id)
        try:
            yield GmailAccount(harness, account_id, backend, gmail=gmail)
        finally:
            await backend.close()


def gmail_backend(gmail: Gmail, harness: Harness, account_id: str) -> ImapBackend:
    login = ServerLogin("127.0.0.1", gmail.port, TransportSecurity.NONE, USER, PASSWORD)
    guard = NetGuard.of(["127.0.0.0/8"])
    origin = Origin(login, guard, ssl.create_default_context(), Hosts())
    return ImapBackend(account_id, origin, harness.reader.mailboxes)  # type: ignore[arg-type]


def mail(subject: str, *, reply_to: str | None = None, text: str = "Hello") -> bytes:
    lines = [
        "From: Ann <ann@example.org>",
        "To: me@gmail.test",
        f"Subject: {subject}",
        "Date: Mon, 1 Jan 2024 09:00:00 +0000",
        f"Message-ID: <{subject}@example.org>",
        *([f"In-Reply-To: <{reply_to}@example.org>"] if reply_to else []),
        "",
        text,
        "",
    ]
    return "\r\n".join(lines).encode()
