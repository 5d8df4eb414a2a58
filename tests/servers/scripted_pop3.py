"""A POP3 server that lacks what a test takes away, and answers what a test wants: for quirks of servers, no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from app.mail.types import ServerLogin, TransportSecurity

from tests.integration.raw_server import raw_server


@dataclass
class ScriptedPop3:
    """`messages` are (unique id, content). `replies` has the place of what a verb would answer; bytes as they go out.

    `capabilities` None: there is no CAPA. `lacks` are verbs that it does not know. `pieces` cuts what it sends.
    """

    messages: list[tuple[str, bytes]] = field(default_factory=list)
    capabilities: tuple[str, ...] | None = ("USER", "UIDL", "TOP", "RESP-CODES", "AUTH-RESP-CODE")
    lacks: frozenset[str] = frozenset()
    replies: dict[str, bytes] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    """(verb, unique id) of what it refuses: "RETR", "TOP"."""
    greeting: bytes = b"+OK ready\r\n"
    pieces: int = 0
    cut_after_bytes: int | None = None
    """The connection is closed after so many bytes of a session."""
    heard: list[str] = field(default_factory=list)
    """Verbs, in order."""
    logins: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ServerLogin]:
        async with raw_server(self._converse) as port:
            yield ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "me", "secret")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = [self.cut_after_bytes]
        deleted: set[int] = set()
        await self._send(writer, self.greeting, left)
        while line := await reader.readline():
            verb, *arguments = line.decode().split() or [""]
            self.heard.append(verb.upper())
            await self._send(writer, self._answer(verb.upper(), [int(one) for one in arguments if one.isdigit()]), left)
            if verb.upper() == "DELE":
                deleted.add(int(arguments[0]))
            if verb.upper() == "QUIT":
                self.messages = [one for number, one in enumerate(self.messages, 1) if number not in deleted]
                return

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, left: list[int | None]) -> None:
        if left[0] is not None:
            data, left[0] = data[: left[0]], left[0] - len(data[: left[0]])
        size = self.pieces or len(data) or 1
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()
            if self.pieces:
                await asyncio.sleep(0)
        if left[0] == 0:
            raise ConnectionResetError

    def _answer(self, verb: str, numbers: list[int]) -> bytes:
        if verb in self.replies:
            return self.replies[verb]
        if verb in self.lacks:
            return b"-ERR unknown command\r\n"
        made = {"CAPA": self._capa, "LIST": self._list, "UIDL": self._uidl}.get(verb)
        if made is not None:
            return made()
        if verb in ("TOP", "RETR") and (verb, self.messages[numbers[0] - 1][0]) in self.refused:
            return b"-ERR this one is broken\r\n"
        if verb in ("TOP", "RETR"):
            return self._message(self.messages[numbers[0] - 1][1], is_whole=verb == "RETR")
        self.logins += verb == "PASS"
        return b"+OK\r\n"

    def _capa(self) -> bytes:
        if self.capabilities is None:
            return b"-ERR unknown command\r\n"
        return _multi(one.encode() for one in self.capabilities)

    def _list(self) -> bytes:
        return _multi(b"%d %d" % (number, len(one[1])) for number, one in enumerate(self.messages, 1))

    def _uidl(self) -> bytes:
        return _multi(b"%d %s" % (number, one[0].encode()) for number, one in enumerate(self.messages, 1))

    def _message(self, content: bytes, *, is_whole: bool) -> bytes:
        shown = content.removesuffix(b"\r\n") if is_whole else content.partition(b"\r\n\r\n")[0] + b"\r\n"
        return _multi(shown.split(b"\r\n"))


def _multi(lines: Iterable[bytes]) -> bytes:
    return b"+OK\r\n" + b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines) + b".\r\n"
