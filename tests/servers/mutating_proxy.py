"""A proxy that spoils what a mail server says: lines dropped, doubled, split, swapped, items missing, numbers wrong."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from tests.integration.raw_server import raw_server

_LITERAL = re.compile(rb"\{([0-9]+)\}\r\n\Z")
_NUMBER = re.compile(rb"\b[0-9]+\b")
_ITEM = re.compile(rb"(?:UID|FLAGS|INTERNALDATE|RFC822\.SIZE|MODSEQ|MESSAGES|UIDNEXT|UIDVALIDITY|UNSEEN|HIGHESTMODSEQ)")


KINDS = ("drop", "double", "split", "swap", "number", "item")
UNTAGGED_ALONE = 0.1
"""Lines of IMAP that are no untagged responses are changed more rarely: each costs the client a deadline."""


class MutatingProxy:
    """Between a client and a mail server. `spoil` is how likely each response is to be changed; 0 is none.

    `others`: how likely, as a part of that, a line is that does not begin with "* ". The same seed makes the same
    changes of these `kinds` to the same conversation.
    """

    def __init__(
        self,
        port: int,
        seed: int,
        spoil: float = 0.1,
        *,
        kinds: Sequence[str] = KINDS,
        others: float = UNTAGGED_ALONE,
    ) -> None:
        self.spoil = spoil
        self._kinds = kinds
        self._others = others
        self.changes: list[str] = []
        self._port = port
        self._random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port of the proxy."""
        async with raw_server(self._converse) as port:
            yield port

    def be_honest(self) -> None:
        """Change nothing from now on; connections that heard something else end."""
        self.spoil = 0.0
        for writer in self._writers:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        self._writers |= {writer, upstream}
        try:
            asking = asyncio.create_task(_pump(reader, upstream))
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(upstream_reader, writer)
            asking.cancel()
        finally:
            self._writers -= {writer, upstream}
            for end in (writer, upstream):
                end.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = b""
        while response := await _response(reader):
            changed = [response]
            if self._random.random() < self.spoil * (1.0 if response.startswith(b"* ") else self._others):
                name, changed = self._changed(response)
                self.changes.append(f"{name} {response[:60]!r}")
                if name == "swap" and not held:
                    held = response
                    continue
            for piece in [*changed, held]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            held = b""

    def _changed(self, response: bytes) -> tuple[str, list[bytes]]:
        kind = self._random.choice(self._kinds)
        cut = self._random.randrange(len(response))
        match kind:
            case "drop":
                return kind, []
            case "double":
                return kind, [response, response]
            case "split":
                return kind, [response[:cut], response[cut:]]
            case "number":
                return kind, [self._without(_NUMBER, response, b"%d" % self._random.choice([0, 1, 7, 4_000_000_000]))]
            case "item":
                return kind, [self._without(_ITEM, response, b"X-ODD")]
            case _:
                return kind, [response]

    def _without(self, pattern: re.Pattern[bytes], response: bytes, instead: bytes) -> bytes:
        """The first line with one match replaced; what a literal holds, and its size, stay."""
        line, end, rest = response.partition(b"\r\n")
        line, mark, size = line.partition(b"{") if line.endswith(b"}") else (line, b"", b"")
        places = list(pattern.finditer(line))
        if places:
            place = self._random.choice(places)
            line = line[: place.start()] + instead + line[place.end() :]
        return line + mark + size + end + rest


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def _response(reader: asyncio.StreamReader) -> bytes:
    """A line with its literals."""
    whole = await reader.readline()
    while literal := _LITERAL.search(whole):
        whole += await reader.readexactly(int(literal[1]))
        whole += await reader.readline()
    return whole
