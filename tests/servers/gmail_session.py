"""A session of the server that behaves as Gmail's does: what is selected in it, what it was told, its bytes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from app.wire.imap.command_framing import CommandFramer, CommandLimits, LiteralRequested, ReceivedCommand
from app.wire.imap.names import encode_utf7
from app.wire.imap.request import MessageSet
from app.wire.imap.sets import SequenceSet

from tests.servers.gmail_store import Box

if TYPE_CHECKING:
    from tests.servers.gmail import Gmail

_LIMITS = CommandLimits(command_bytes=64 << 20, stream_from_bytes=64 << 20)


class No(Exception):
    """Ends a command by this status and text."""


class Session:
    """One connection; `No` is raised by what it looks up."""

    def __init__(self, gmail: Gmail, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.gmail, self.store = gmail, gmail.store
        self.reader, self.writer = reader, writer
        self.news = asyncio.Event()
        self.framer = CommandFramer(_LIMITS)
        self.framer.message_limit_bytes = 64 << 20
        self.is_user = self.is_utf8 = False
        self.box: Box | None = None
        self.seen: dict[int, list[str]] = {}
        """UID → flags of the selected mailbox, as this session has been told."""

    def send(self, line: str | bytes) -> None:
        self.writer.write((line.encode() if isinstance(line, str) else line) + b"\r\n")

    async def next_command(self) -> ReceivedCommand | None:
        while True:
            event = self.framer.next_event()
            if isinstance(event, ReceivedCommand):
                return event
            if isinstance(event, LiteralRequested):
                self.send("+ go ahead")
            elif event is None:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self.framer._buffer.append(data)

    async def idle(self) -> None:
        self.send("+ idling")
        self.tell_news()
        while True:
            line, news = asyncio.ensure_future(self.next_command()), asyncio.ensure_future(self.news.wait())
            try:
                await asyncio.wait({line, news}, return_when=asyncio.FIRST_COMPLETED)
                if line.done():
                    if line.result() is None:
                        raise ConnectionResetError
                    return
            finally:
                news.cancel()
                line.cancel()
                with suppress(asyncio.CancelledError):
                    await line
            self.tell_news()
            await self.writer.drain()

    def tell_news(self) -> None:
        """What changed in the selected mailbox since it was last told."""
        self.news.clear()
        if self.box is None:
            return
        numbers = list(self.seen)
        for uid in [uid for uid in numbers if uid not in self.box.uids]:
            self.send(f"* {numbers.index(uid) + 1} EXPUNGE")
            numbers.remove(uid)
        new = [uid for uid in self.box.uids if uid not in self.seen]
        if new:
            self.send(f"* {len(numbers) + len(new)} EXISTS")
        for number, uid in enumerate(numbers, 1):
            flags = self.box.flags(uid)
            if flags != self.seen[uid]:
                self.send(f"* {number} FETCH (UID {uid} MODSEQ ({self.box.modseqs[uid]}) FLAGS ({' '.join(flags)}))")
        self.seen = {uid: self.box.flags(uid) for uid in self.box.uids}

    def shown(self, name: str) -> str:
        """A mailbox's name as it is sent."""
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted if self.is_utf8 else encode_utf7(quoted)}"'

    def box_named(self, name: str) -> Box:
        if name not in self.store.boxes:
            raise No("NO [NONEXISTENT] Unknown Mailbox: (Failure)")
        return self.store.boxes[name]

    def target(self, name: str) -> Box:
        """The mailbox that messages go to."""
        if name not in self.store.boxes:
            raise No(f"NO [TRYCREATE] No folder {name} (Failure)")
        return self.store.boxes[name]

    def selected(self) -> Box:
        if self.box is None:
            raise No("BAD No mailbox selected")
        return self.box

    def among(self, numbers: MessageSet) -> list[int]:
        """The UIDs of the selected mailbox that are in a set."""
        box = self.selected()
        assert isinstance(numbers, SequenceSet)
        wanted = numbers.resolved(max(box.uids, default=0))
        return [uid for uid in box.uids if uid in wanted]
