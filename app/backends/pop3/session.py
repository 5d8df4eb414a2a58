"""A POP3 session: logged in, with the maildrop locked (RFC 1939 §3). As short as can be; deletions count at QUIT."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from app.backends.pop3.connection import Pop3Connection
from app.backends.pop3.refusals import error_of, origin_of
from app.errors import ServerRefused
from app.wire.pop3_client import Capabilities, command, parse_sizes, parse_uidls

HEADER_LIMIT_BYTES = 1024 * 1024
WINDOW = 64
"""Commands that are sent ahead of their replies where the server offers PIPELINING."""
WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the maildrop as this session sees it. `number` means nothing beyond the session."""

    number: int
    size_bytes: int
    uidl: str | None


class Pop3Session:
    """See above. `close` ends it without QUIT: nothing is deleted then."""

    def __init__(self, connection: Pop3Connection, capabilities: Capabilities) -> None:
        self._connection = connection
        self.capabilities = capabilities

    @property
    def has_top(self) -> bool:
        """Whether a header can be had without its message."""
        return "TOP" in self.capabilities or not self.capabilities.arguments

    async def listing(self) -> list[Entry]:
        """All messages of both lists, in the order of their numbers.

        `size_bytes` is 0 and `uidl` None for those of which the server does not tell it; it may have no UIDL at all.
        """
        sizes = parse_sizes(await self._lines(command("LIST")))
        uidls = await self._uidls() or {}
        return [Entry(number, sizes.get(number, 0), uidls.get(number)) for number in sorted(sizes.keys() | uidls)]

    async def _uidls(self) -> dict[int, str] | None:
        status = await self._connection.ask(command("UIDL"))
        return parse_uidls(await self._connection.lines()) if status.is_ok else None

    async def headers(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, bytes]]:
        """The header block of each message, up to and with its empty line; by TOP, else by RETR (RFC 1939 §7)."""
        left = {entry.number: entry for entry in entries}
        for line in ("TOP {} 0", "RETR {}")[0 if self.has_top else 1 :]:
            async for entry in self._asked(line, list(left.values())):
                head = _Head()
                limit = max(HEADER_LIMIT_BYTES, 2 * entry.size_bytes)
                await self._connection.copy_message(head.take, entry.size_bytes, limit)
                del left[entry.number]
                yield entry, head.content

    async def asked_for(
        self, entries: Sequence[Entry], may_go_on: Callable[[], bool], refused: dict[int, str]
    ) -> AsyncIterator[Entry]:
        """Ask for whole messages, as long as it `may_go_on`. Of each that comes, `receive` must be called before the
        next. Those that the server declines are passed over; `refused` takes its words for those it refuses, by number.
        """
        async for entry in self._asked("RETR {}", entries, may_go_on, refused):
            yield entry

    async def receive(self, entry: Entry, write: Callable[[bytes], None], limit_bytes: int) -> None:
        """Take the bytes of the message that `asked_for` said comes. TooLarge: this session can do no more then."""
        await self._connection.copy_message(write, entry.size_bytes, limit_bytes)

    async def _asked(
        self,
        line: str,
        entries: Sequence[Entry],
        may_go_on: Callable[[], bool] = lambda: True,
        refused: dict[int, str] | None = None,
    ) -> AsyncIterator[Entry]:
        """Send a command for each message, and say of which the reply comes next."""
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
        """Messages that are asked for at once: some small ones, or one that is not."""
        most = WINDOW if "PIPELINING" in self.capabilities else 1
        start, size = 0, 0
        for number, one in enumerate(entries):
            if number > start and (number - start == most or size + one.size_bytes > WINDOW_BYTES):
                yield entries[start:number]
                start, size = number, 0
            size += one.size_bytes
        if start < len(entries):
            yield entries[start:]

    async def delete(self, entries: Sequence[Entry]) -> list[Entry]:
        """Mark messages as deleted; those that the server agreed to. They go when `quit` returns."""
        return [entry async for entry in self._asked("DELE {}", entries)]

    async def quit(self) -> None:
        """End the session, and let deletions count. ServerRefused where some could not be made."""
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


class _Head:
    """Keeps a message's bytes up to its first empty line."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._is_done = False

    def take(self, piece: bytes) -> None:
        if self._is_done:
            return
        searched = max(0, len(self._kept) - 3)
        self._kept += piece
        end = self._kept.find(b"\r\n\r\n", searched)
        if self._kept.startswith(b"\r\n"):
            end = -2
        if end != -1 or len(self._kept) > HEADER_LIMIT_BYTES:
            self._is_done = True
            del self._kept[end + 4 if end != -1 else HEADER_LIMIT_BYTES :]

    @property
    def content(self) -> bytes:
        return bytes(self._kept)
