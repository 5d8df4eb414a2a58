"""A logged-in POP3 session, with the maildrop locked (RFC 1939 §3). Deletions take effect at QUIT."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from app.backends.pop3.connection import Pop3Connection
from app.backends.pop3.refusals import error_of, origin_of
from app.errors import ServerRefused
from app.wire.pop3_client import Pop3Capabilities, command, parse_sizes, parse_uidls

HEADER_LIMIT_BYTES = 1024 * 1024
WINDOW = 64
"""Commands sent before their replies are read, if the server offers PIPELINING."""
WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the maildrop. `number` is valid in this session only."""

    number: int
    size_bytes: int
    uidl: str | None


class Pop3Session:
    """A session that `quit` or `close` ends. `close` sends no QUIT, so nothing is deleted."""

    def __init__(self, connection: Pop3Connection, capabilities: Pop3Capabilities) -> None:
        self._connection = connection
        self.capabilities = capabilities

    @property
    def has_top(self) -> bool:
        """Whether TOP can return a header without the message."""
        return "TOP" in self.capabilities or not self.capabilities.arguments

    async def listing(self) -> list[Entry]:
        """All messages of LIST and UIDL, in the order of their numbers.

        `size_bytes` is 0 and `uidl` None where the server does not report them; it may not support UIDL.
        """
        sizes = parse_sizes(await self._lines(command("LIST")))
        uidls = await self._uidls() or {}
        return [Entry(number, sizes.get(number, 0), uidls.get(number)) for number in sorted(sizes.keys() | uidls)]

    async def _uidls(self) -> dict[int, str] | None:
        status = await self._connection.ask(command("UIDL"))
        return parse_uidls(await self._connection.lines()) if status.is_ok else None

    async def headers(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, bytes]]:
        """The header of each message including the empty line, by TOP, else by RETR (RFC 1939 §7)."""
        left = {entry.number: entry for entry in entries}
        for line in ("TOP {} 0", "RETR {}")[0 if self.has_top else 1 :]:
            async for entry in self._asked(line, list(left.values())):
                head = _HeaderBuffer()
                limit = max(HEADER_LIMIT_BYTES, 2 * entry.size_bytes)
                await self._connection.copy_message(head.take, entry.size_bytes, limit)
                del left[entry.number]
                yield entry, head.content

    async def asked_for(
        self, entries: Sequence[Entry], may_go_on: Callable[[], bool], refused: dict[int, str]
    ) -> AsyncIterator[Entry]:
        """Request whole messages while `may_go_on` is True. Call `receive` for each entry before the next one.

        Declined messages are skipped; for refused ones `refused` receives the response text by number.
        """
        async for entry in self._asked("RETR {}", entries, may_go_on, refused):
            yield entry

    async def receive(self, entry: Entry, write: Callable[[bytes], None], limit_bytes: int) -> None:
        """Read the message of the last entry. After TooLarge the session is unusable."""
        await self._connection.copy_message(write, entry.size_bytes, limit_bytes)

    async def _asked(
        self,
        line: str,
        entries: Sequence[Entry],
        may_go_on: Callable[[], bool] = lambda: True,
        refused: dict[int, str] | None = None,
    ) -> AsyncIterator[Entry]:
        """Send a command for each message, and yield the entry whose reply comes next."""
        for window in self._windows(entries):
            if not may_go_on():
                return
            self._connection.send(b"".join(command(line.format(item.number)) for item in window))
            for entry in window:
                status = await self._connection.status()
                if status.is_ok:
                    yield entry
                elif refused is not None and type(error_of(status)) is ServerRefused:
                    refused[entry.number] = status.text

    def _windows(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        """Groups of messages to request at once: several small ones, or one large one."""
        most = WINDOW if "PIPELINING" in self.capabilities else 1
        start, size = 0, 0
        for index, entry in enumerate(entries):
            if index > start and (index - start == most or size + entry.size_bytes > WINDOW_BYTES):
                yield entries[start:index]
                start, size = index, 0
            size += entry.size_bytes
        if start < len(entries):
            yield entries[start:]

    async def delete(self, entries: Sequence[Entry]) -> list[Entry]:
        """Mark messages as deleted and return those that the server accepted. They are deleted when `quit` returns."""
        return [entry async for entry in self._asked("DELE {}", entries)]

    async def quit(self) -> None:
        """End the session and delete the marked messages. Raises ServerRefused if some could not be deleted."""
        try:
            status = await self._connection.ask(command("QUIT"))
        finally:
            self.close()
        if not status.is_ok:
            raise ServerRefused("The mail server did not delete all messages", origin_of(status))

    def close(self) -> None:
        self._connection.drop()

    async def _lines(self, line: bytes) -> list[bytes]:
        status = await self._connection.ask(line)
        if not status.is_ok:
            raise error_of(status)
        return await self._connection.lines()


class _HeaderBuffer:
    """Keeps a message's bytes up to its first empty line."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._is_done = False

    def take(self, piece: bytes) -> None:
        if self._is_done:
            return
        searched = max(0, len(self._content) - 3)
        self._content += piece
        end = self._content.find(b"\r\n\r\n", searched)
        if self._content.startswith(b"\r\n"):
            end = -2
        if end != -1 or len(self._content) > HEADER_LIMIT_BYTES:
            self._is_done = True
            del self._content[end + 4 if end != -1 else HEADER_LIMIT_BYTES :]

    @property
    def content(self) -> bytes:
        return bytes(self._content)
