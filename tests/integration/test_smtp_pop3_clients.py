"""Real clients at the embedded SMTP and POP3 servers: each does a real job."""

from __future__ import annotations

import asyncio
import poplib
import smtplib
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

import pytest

from tests.integration.embedded import HOST, Embedded, embedded_servers
from tests.servers.tls import TlsFiles

T = TypeVar("T")


@pytest.fixture
async def servers(tmp_path: Path, tls: TlsFiles) -> AsyncIterator[Embedded]:
    async with embedded_servers(tmp_path, tls) as servers:
        yield servers


def message(subject: str = "Hi", sender: str = "ann@demo.test", to: str = "bob@demo.test") -> EmailMessage:
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = subject, sender, to
    made.set_content("Hello\n.a line with a dot\n..two\n.\nend\n")
    return made


async def in_thread(work: Callable[[], T]) -> T:
    async with asyncio.timeout(30):
        return await asyncio.to_thread(work)


async def contents(servers: Embedded, name: str) -> list[bytes]:
    account_id = await servers.house.deliveries.account_of(f"{name}@demo.test")
    assert account_id is not None
    return await servers.house.contents(account_id)


async def test_smtplib_submits_under_starttls_and_poplib_reads_and_removes(servers: Embedded, tls: TlsFiles) -> None:
    def submit() -> None:
        with smtplib.SMTP(HOST, servers.submission, timeout=10) as client:
            client.starttls(context=tls.client_context())
            client.login("ann@demo.test", "secret")
            client.send_message(message("First"))
            client.send_message(message("Second"))

    def read() -> tuple[list[bytes], list[bytes], list[bytes]]:
        client = poplib.POP3_SSL(HOST, servers.pop3s, context=tls.client_context(), timeout=10)
        client.user("bob@demo.test")
        client.pass_("secret")
        assert client.stat()[0] == 2
        first = client.retr(1)[1]
        top = client.top(2, 1)[1]
        uidl = client.uidl()[1]
        client.dele(1)
        client.quit()
        return first, top, uidl

    await in_thread(submit)
    first, top, uidl = await in_thread(read)

    assert b"Subject: First" in first
    assert first[-5:] == [b"Hello", b".a line with a dot", b"..two", b".", b"end"]
    assert b"Subject: Second" in top
    assert top[-2:] == [b"", b"Hello"]
    assert len({line.split()[1] for line in uidl}) == 2
    assert [b"Subject: Second" in one for one in await contents(servers, "bob")] == [True]
