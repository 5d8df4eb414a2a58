"""A Harness with its IMAP server listening on a loopback port, and a line-by-line client to talk to it."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.mail.types import AccountId
from app.mailstore.texts import TextIndex
from app.mailstore.views import MailboxViews
from app.servers.admission import Admission
from app.servers.imap.conversation import imap_answer
from app.servers.imap.session import ImapServices
from app.servers.listener import Listener

from tests.harness import Harness, open_harness

USER = "ann@example.test"
PASSWORD = "secret"
MAX_MESSAGE_BYTES = 40 * 1024 * 1024
TIMEOUT_SECONDS = 10.0

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


def mail(subject: str, body: str = "Hello.\r\n", **fields: str) -> bytes:
    """A small message; more header fields by name (`List_Id` is List-Id)."""
    lines = {
        "From": "Bob <bob@example.test>",
        "To": USER,
        "Subject": subject,
        "Message-ID": f"<{subject}@example.test>",
    }
    lines |= {"Date": "Mon, 1 Jan 2024 09:00:00 +0000"}
    lines |= {name.replace("_", "-"): value for name, value in fields.items()}
    header = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{header}\r\n{body}".encode()


@dataclass(frozen=True, slots=True)
class ImapHarness:
    harness: Harness
    services: ImapServices
    account_id: AccountId
    port: int

    async def deliver(self, content: bytes, path: str = "INBOX", flags: frozenset[str] = frozenset()) -> int:
        """Put a message into a mailbox as a delivery does; its UID."""
        mailbox = await self.harness.mailbox(self.account_id, path)
        applied = await self.harness.store.add(
            self.account_id, mailbox.id, [(await self.harness.store.keep(content), flags, None)]
        )
        return next(iter(applied.message_ids)).uid

    @asynccontextmanager
    async def client(self, *, is_logged_in: bool = True) -> AsyncIterator[ImapClient]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        client = ImapClient(reader, writer)
        try:
            client.greeting = await client.response()
            if is_logged_in:
                await client.ok(f"LOGIN {USER} {PASSWORD}")
            yield client
        finally:
            writer.close()


class ImapClient:
    """Sends commands and reads answers as bytes, one a line with its literals."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._count = 0
        self.greeting = b""

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def response(self) -> bytes:
        """One response with its literals and without its line end; b"" at the end of the stream."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            whole = await self._reader.readline()
            while literal := _LITERAL.search(whole):
                whole += await self._reader.readexactly(int(literal[1]))
                whole += await self._reader.readline()
        return whole.removesuffix(b"\r\n")

    async def command(self, text: str | bytes) -> list[bytes]:
        """The answers to a command, the tagged one last and without its tag."""
        self._count += 1
        tag = b"t%d" % self._count
        self.send(tag + b" " + (text.encode() if isinstance(text, str) else text) + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> list[bytes]:
        answers: list[bytes] = []
        while answer := await self.response():
            if answer.startswith(tag + b" "):
                return [*answers, answer.removeprefix(tag + b" ")]
            answers.append(answer)
        return [*answers, b"(closed)"]

    async def ok(self, text: str | bytes) -> list[bytes]:
        """The answers before the tagged one, which is OK."""
        *answers, done = await self.command(text)
        assert done.startswith(b"OK"), (text, answers, done)
        return answers


@asynccontextmanager
async def open_imap_harness(
    folder: Path, tls: ssl.SSLContext | None = None, *, is_new: bool = True, database_url: str | None = None
) -> AsyncIterator[ImapHarness]:
    """An account `USER`, and the IMAP server. `is_new` False: the account is there from before.

    Rows are in SQLite unless there is a `database_url`.
    """
    async with open_harness(folder, database_url) as harness:
        if is_new:
            await harness.add_account(USER, PASSWORD)
        account_id = (await harness.logins.verify(USER, PASSWORD, address="127.0.0.1")).account_id
        views, texts = MailboxViews(harness.database), TextIndex(harness.database)
        services = ImapServices(
            harness.store, harness.reader, views, harness.bus, harness.logins, texts, MAX_MESSAGE_BYTES
        )
        listener = Listener("imap", imap_answer(services), Admission(), tls)
        port = await listener.start("127.0.0.1", 0)
        try:
            yield ImapHarness(harness, services, account_id, port)
        finally:
            await listener.close(1.0)
