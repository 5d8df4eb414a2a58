"""A TCP proxy before a plaintext IMAP server that cuts connections at random and hides capabilities."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections.abc import Collection
from contextlib import suppress

from tests.servers.process import free_port

_HIGHEST_MODSEQ = re.compile(rb"\[HIGHESTMODSEQ \d+\]")
_LINE_LIMIT = 64 * 1024 * 1024


class CuttingProxy:
    """Listens on `port` in a thread of its own.

    A share of the connections, `cut_share`, ends after a random number of bytes from the server: in the midst of a
    line as well as between two. `hidden` are capabilities that the client is not shown; without CONDSTORE it is shown
    no HIGHESTMODSEQ either.
    """

    def __init__(self, target_port: int, seed: int, *, hidden: Collection[str] = (), cut_share: float = 0.0) -> None:
        self.port = free_port()
        self.cut_share = cut_share
        self._target_port = target_port
        self._chance = random.Random(seed)
        self._hidden = [name.encode() for name in hidden]
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._is_ready.wait(10)

    def close(self) -> None:
        self.cut_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut_all(self) -> None:
        """Reset every connection that is open now."""
        self._loop.call_soon_threadsafe(self._abort, None)

    def cut_one(self) -> None:
        """Reset one of them."""
        self._loop.call_soon_threadsafe(self._abort, 1)

    def _abort(self, count: int | None) -> None:
        writers = list(self._open)
        for writer in writers if count is None else self._chance.sample(writers, min(count, len(writers))):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._is_ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._target_port, limit=_LINE_LIMIT)
            await asyncio.wait(
                [
                    asyncio.create_task(self._send(reader, upstream)),
                    asyncio.create_task(self._answer(answers, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except OSError:
            pass  # the server is down: so is the connection
        finally:
            self._open.discard(writer)
            for one in filter(None, (writer, upstream)):
                one.transport.abort()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = int(10 ** self._chance.uniform(2.5, 5.5)) if self._chance.random() < self.cut_share else None
        with suppress(OSError):
            while data := await (reader.readline() if self._hidden else reader.read(65536)):
                data = self._masked(data)
                if left is not None:
                    data, left = data[:left], left - len(data)
                writer.write(data)
                await writer.drain()
                if left is not None and left <= 0:
                    return

    def _masked(self, line: bytes) -> bytes:
        if not self._hidden:
            return line
        if b"CAPABILITY " in line:
            for name in self._hidden:
                line = re.sub(rb" " + re.escape(name) + rb"(?=[ \]\r])", b"", line)
        if b"CONDSTORE" in self._hidden:
            line = _HIGHEST_MODSEQ.sub(b"[NOMODSEQ]", line)
        return line
