"""Dovecot made to look like the mail servers of large providers, by a proxy that hides, refuses and answers as they do.

What each offers and says is known from logs in public bug reports; the bytes are in `tests/corpus/imap`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_LINE_LIMIT = 64 * 1024 * 1024
_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n\Z")
_CODE = re.compile(rb"\[CAPABILITY [^\]]*\] ?")
_MODSEQ = re.compile(rb"\[(?:HIGHESTMODSEQ \d+|NOMODSEQ)\]")
_USES = re.compile(rb"\\(?:Sent|Drafts|Trash|Junk|Archive|All|Flagged) ?", re.IGNORECASE)
_COMMAND = re.compile(rb"(\S+) ((?:UID )?\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Provider:
    """`refused` maps a command's name to how it is answered; everything that is not offered is refused by BAD."""

    name: str
    greeting: str
    before_login: str
    after_login: str
    refused: dict[str, str] = field(default_factory=dict)
    unknown: str = r"CHANGEDSINCE|MODSEQ|CONDSTORE|QRESYNC|VANISHED|RETURN \("
    """Words of extensions that it refuses."""
    tells_enabled: bool = True
    inbox: str = "INBOX"


MICROSOFT_365 = Provider(
    "microsoft-365",
    "The Microsoft Exchange IMAP4 service is ready. [QQ==]",
    "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
    "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTACCESSRULES "
    "CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE CHILDREN IDLE NAMESPACE LITERAL+",
    dict.fromkeys(("ENABLE", "SORT", "UID SORT", "UID THREAD", "NOTIFY", "COMPRESS"), "BAD Command Error. 12"),
)
ICLOUD = Provider(
    "icloud",
    "[CAPABILITY XAPPLEPUSHSERVICE IMAP4 IMAP4rev1 SASL-IR AUTH=ATOKEN AUTH=PLAIN] (2109B29) iscream021.me.com",
    "XAPPLEPUSHSERVICE IMAP4 IMAP4rev1 SASL-IR AUTH=ATOKEN AUTH=PLAIN",
    "XAPPLEPUSHSERVICE IMAP4 IMAP4rev1 CONDSTORE ENABLE QRESYNC QUOTA NAMESPACE UIDPLUS CHILDREN BINARY UNSELECT SORT "
    "CATENATE URLAUTH LANGUAGE ESEARCH ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES CONTEXT=SEARCH CONTEXT=SORT "
    "WITHIN SASL-IR SEARCHRES METADATA ID XMSEARCH X-SUN-SORT ANNOTATE-EXPERIMENT-1 X-UNAUTHENTICATE X-SUN-IMAP XUM1 "
    "MULTISEARCH IDLE LIST-STATUS",
    dict.fromkeys(("UID MOVE", "MOVE", "NOTIFY", "COMPRESS"), "BAD Unknown command"),
    unknown=r"QRESYNC|VANISHED|LIST \(",
    tells_enabled=False,
)
YAHOO = Provider(
    "yahoo",
    "[CAPABILITY IMAP4rev1 ID MOVE NAMESPACE X-ID-ACLID UIDPLUS LITERAL+ CHILDREN XAPPLEPUSHSERVICE XYMHIGHESTMODSEQ "
    "AUTH=PLAIN AUTH=XOAUTH2] IMAP4rev1 imapgate-1.8.1_01.20166",
    "IMAP4rev1 ID MOVE NAMESPACE X-ID-ACLID UIDPLUS LITERAL+ CHILDREN XAPPLEPUSHSERVICE XYMHIGHESTMODSEQ AUTH=PLAIN "
    "AUTH=XOAUTH2",
    "IMAP4rev1 ID MOVE NAMESPACE X-ID-ACLID UIDPLUS LITERAL+ XAPPLEPUSHSERVICE XYMHIGHESTMODSEQ",
    dict.fromkeys(("ENABLE", "IDLE", "UNSELECT", "NOTIFY", "COMPRESS"), "BAD [CLIENTBUG] Command arguments invalid"),
    inbox="Inbox",
)


@dataclass
class ProvidedServer:
    """A running proxy. `limit` connections are let in, the next is told `too_many`; `refusals` answer a command."""

    provider: Provider
    target_port: int
    port: int = 0
    limit: int = 1_000
    too_many: str = ""
    refusals: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    is_silent: bool = False
    """Nothing more is answered, and no connection closed."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        upstream = None
        try:
            if self.connections > self.limit:
                writer.write(f"* BYE {self.too_many}\r\n".encode())
                return
            answers, upstream = await asyncio.open_connection("127.0.0.1", self.target_port, limit=_LINE_LIMIT)
            link = _Link(self, reader, writer, answers, upstream)
            parts = [asyncio.ensure_future(link.commands()), asyncio.ensure_future(link.answers())]
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        finally:
            self.connections -= 1
            for one in filter(None, (writer, upstream)):
                one.close()


class _Link:
    def __init__(
        self,
        server: ProvidedServer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        self._server, self._provider = server, server.provider
        self._reader, self._writer = reader, writer
        self._answers, self._upstream = answers, upstream
        self._is_inside = False

    async def commands(self) -> None:
        while line := await self._reader.readline():
            match = _COMMAND.match(line)
            name = match[2].upper().decode() if match else "DONE"
            self._server.commands.append(name)
            refusal = self._server.refusals.get(name) or self._provider.refused.get(name)
            if name != "ENABLE" and re.search(self._provider.unknown.encode(), line):
                refusal = "BAD Unknown argument"
            if refusal is not None and match is not None:
                self._writer.write(match[1] + b" " + refusal.encode() + b"\r\n")
                continue
            await self._pass(line)

    async def _pass(self, line: bytes) -> None:
        """A command with its literals."""
        self._upstream.write(line)
        while literal := _LITERAL.search(line):
            await self._upstream.drain()
            self._upstream.write(await self._reader.readexactly(int(literal[1])))
            line = await self._reader.readline()
            self._upstream.write(line)
        await self._upstream.drain()

    async def answers(self) -> None:
        with suppress(ConnectionError):  # the client left
            await self._pass_answers()

    async def _pass_answers(self) -> None:
        await self._answers.readline()
        self._writer.write(f"* OK {self._provider.greeting}\r\n".encode())
        while line := await self._answers.readline():
            if self._server.is_silent:
                continue
            self._writer.write(self._masked(line))
            while literal := _LITERAL.search(line):
                self._writer.write(await self._answers.readexactly(int(literal[1])))
                line = await self._answers.readline()
                self._writer.write(line)
            await self._writer.drain()

    def _masked(self, line: bytes) -> bytes:
        provider = self._provider
        if b" OK [CAPABILITY " in line[:40]:
            self._is_inside = True
        line = _CODE.sub(b"", line, 1) if b"[CAPABILITY " in line[:60] else line
        if line.startswith(b"* CAPABILITY"):
            offered = provider.after_login if self._is_inside else provider.before_login
            return f"* CAPABILITY {offered}\r\n".encode()
        if line.startswith(b"* ENABLED") and not provider.tells_enabled:
            return b""
        if line.startswith((b"* LIST (", b"* LSUB (")):
            line = _USES.sub(b"", line)
            return line.replace(b'"/" INBOX\r\n', b'"/" "%s"\r\n' % provider.inbox.encode())
        if line.startswith(b"* OK [") and "CONDSTORE" not in provider.after_login and provider is not YAHOO:
            return b"" if _MODSEQ.search(line) else line
        return line


@asynccontextmanager
async def running(provider: Provider, target_port: int) -> AsyncIterator[ProvidedServer]:
    """A proxy before a Dovecot that listens for plaintext on a loopback port."""
    provided = ProvidedServer(provider, target_port)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with suppress(OSError, asyncio.IncompleteReadError):
            await provided.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_LINE_LIMIT)
    provided.port = server.sockets[0].getsockname()[1]
    try:
        yield provided
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
