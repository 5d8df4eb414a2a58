"""A small HTTPS server on a loopback port that answers by a table, and notes what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes = b""
    status: int = 200
    location: str | None = None
    is_hung: bool = False


@dataclass(slots=True)
class HttpsServer:
    """`pages`: by "GET host/path", without the query. What is not there is 404."""

    port: int
    tls: ssl.SSLContext
    """Trusts this server's authority alone."""
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Request lines with the host, in order."""
    bodies: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def https_server(folder: Path, *names: str) -> AsyncIterator[HttpsServer]:
    """A server whose certificate is good for these names (`*.example.test`)."""
    authority = trustme.CA()
    leaf = authority.issue_cert(*names)
    client, context = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    leaf.configure_cert(context)
    found = HttpsServer(0, client)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await _answer(found, reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(server: HttpsServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, target, _ = head.split("\r\n", 1)[0].split(" ")
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    headers = {name.lower(): value for name, value in fields.items()}
    host = headers["host"].partition(":")[0]
    server.asked.append(f"{method} {host}{target}")
    server.bodies.append(await reader.readexactly(int(headers.get("content-length", 0))))
    page = server.pages.get(f"{method} {host}{target.partition('?')[0]}", Page(status=404))
    if page.is_hung:
        await reader.read()
    location = f"Location: {page.location}\r\n" if page.location else ""
    head_out = f"HTTP/1.1 {page.status} x\r\n{location}Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
    writer.write(head_out.encode() + page.body)
    await writer.drain()
