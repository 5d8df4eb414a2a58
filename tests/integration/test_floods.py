"""Slow and many clients at the embedded servers: bounded in time and memory, and no one else waits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.embedded import HOST, Embedded, embedded_servers
from tests.servers.tls import TlsFiles

CONNECTIONS = 400
MEMORY_BYTES = 40 * 1024 * 1024


@pytest.fixture
async def servers(tmp_path: Path, tls: TlsFiles) -> AsyncIterator[Embedded]:
    async with embedded_servers(tmp_path, tls) as servers:
        yield servers


async def greeted(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, port)
    await reader.readline()
    return reader, writer


async def until_the_end(reader: asyncio.StreamReader) -> bytes:
    """All that a server says; what comes before a reset counts."""
    content = b""
    with suppress(ConnectionResetError):
        while piece := await reader.read(1_000):
            content += piece
    return content


@pytest.mark.parametrize("server", ["submission", "mx", "pop3"])
async def test_hundreds_of_endless_commands_hold_up_nobody(servers: Embedded, server: str) -> None:
    """`NOOP ((((` without a line end (CVE-2026-27857), and more of it, from many connections."""
    port = getattr(servers, server)
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    crowd = [await greeted(port) for _ in range(CONNECTIONS)]
    for _, writer in crowd:
        writer.write(b"NOOP " + b"(" * 10_000)
    ends = [asyncio.ensure_future(reader.read()) for reader, _ in crowd]

    reader, writer = await greeted(port)
    writer.write(b"NOOP\r\nQUIT\r\n")
    answers = await reader.read()
    ended = sum(end.done() for end in ends)
    grown = process.memory_info().rss - before

    for _, one in [*crowd, (reader, writer)]:
        one.close()
    await asyncio.gather(*ends, *(one.wait_closed() for _, one in crowd))
    assert answers.startswith((b"250 ", b"+OK"))
    assert ended == 0, "it was answered when others had given up"
    assert grown < MEMORY_BYTES


async def test_a_byte_now_and_then_in_a_message_does_not_hold_the_line(
    servers: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline per request, not per byte: before login, in a command, in DATA."""
    monkeypatch.setattr("app.servers.smtp.conversation.TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("app.servers.smtp.conversation.STRANGER_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("app.servers.pop3.STRANGER_TIMEOUT_SECONDS", 0.5)
    starts = [
        (servers.mx, b""),
        (servers.mx, b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<ann@demo.test>\r\nDATA\r\n"),
        (servers.submission, b"EHLO x\r\nAUTH PLAIN\r\n"),
        (servers.pop3, b"USER ann@demo.test\r\n"),
    ]

    async def dribble(port: int, start: bytes) -> bytes:
        reader, writer = await greeted(port)
        writer.write(start)
        reading = asyncio.ensure_future(until_the_end(reader))
        while not reading.done():
            writer.write(b"x")
            await asyncio.sleep(0.05)
        writer.close()
        return await reading

    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(dribble(port, start) for port, start in starts))

    assert all(answer.splitlines()[-1].startswith((b"421 4.4.2 ", b"-ERR [SYS/TEMP] Timed out")) for answer in answers)
    assert not list((servers.harness.store.blobs._root / "incoming").iterdir())
