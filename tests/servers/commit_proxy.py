"""A proxy before PostgreSQL that loses the answer to a COMMIT, or the COMMIT itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_COMMIT = b"COMMIT\0"
"""The text of the client's query, and the tag of the server's CommandComplete."""


class CommitProxy:
    """`url` is the address of the database behind it. One connection at a time is cut, the others go on."""

    def __init__(self, database_url: str) -> None:
        self._target = urlsplit(database_url)
        self._cut: bool | None = None
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        netloc = f"{self._target.username}@127.0.0.1:{port}"
        self.url = self._target._replace(netloc=netloc).geturl()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def cut_next_commit(self, *, after_server_has_it: bool) -> None:
        """Cut the connection of the next COMMIT: before it reaches the server, or before its answer is passed on."""
        self._cut = after_server_has_it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
        ways = [
            asyncio.create_task(self._pass_on(reader, upstream, is_answer=False)),
            asyncio.create_task(self._pass_on(answers, writer, is_answer=True)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, upstream):
            end.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self._cut is is_answer and _COMMIT in data:
                    self._cut = None
                    self.cuts += 1
                    return
                writer.write(data)
                await writer.drain()
