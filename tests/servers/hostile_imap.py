"""An IMAP server with one mailbox that answers as it should, but where a test has it do harm.

It is a conversation for `raw_server`. `spoilt` holds, by the start of a command ("UID FETCH", "SELECT", "IDLE",
"greeting"), what happens in place of its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

CAPABILITIES = "IMAP4rev1 IDLE UIDPLUS MOVE ESEARCH LIST-EXTENDED LIST-STATUS CONDSTORE ENABLE LITERAL+"

Harm = Callable[["Dialog", str], Awaitable[None]]
"""What is done to a connection at a command; `tag` is the command's."""


@dataclass
class Dialog:
    """One connection, for a Harm to work on."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def flood(self, unit: bytes, size_bytes: int) -> None:
        """Send a unit over and over, until so much was sent or the client has had enough."""
        block = unit * max(1, 65_536 // len(unit))
        for _ in range(max(1, size_bytes // len(block))):
            await self.say(block)

    async def drip(self, data: bytes, seconds: float) -> None:
        """Send byte after byte, this far apart."""
        for byte in data:
            await self.say(bytes([byte]))
            await asyncio.sleep(seconds)


@dataclass
class HostileImap:
    """`rows` are the FETCH answers, without number and UID, of the messages 1, 2 …; `asked` all commands so far."""

    spoilt: dict[str, Harm] = field(default_factory=dict)
    capabilities: str = CAPABILITIES
    rows: list[bytes] = field(default_factory=lambda: [ROW])
    asked: list[str] = field(default_factory=list)
    connections: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        dialog = Dialog(reader, writer)
        if harm := self.spoilt.get("greeting"):
            await harm(dialog, "*")
        else:
            await dialog.say(f"* OK [CAPABILITY {self.capabilities}] ready\r\n".encode())
        idle_tag = ""
        while line := (await reader.readline()).decode().rstrip():
            tag, _, command = line.partition(" ")
            if line == "DONE":
                tag, command = idle_tag, "DONE"
            self.asked.append(command)
            if command == "IDLE":
                idle_tag = tag
            await self._answer(dialog, tag, command)

    async def _answer(self, dialog: Dialog, tag: str, command: str) -> None:
        harm = next((harm for start, harm in self.spoilt.items() if command.startswith(start)), None)
        if harm is not None:
            await harm(dialog, tag)
        elif command == "IDLE":
            await dialog.say(b"+ idling\r\n")
        else:
            await dialog.say(self.answer(command) + f"{tag} OK done\r\n".encode())

    def answer(self, command: str) -> bytes:
        """The untagged answer to a command."""
        count = len(self.rows)
        if command.startswith(("LOGIN", "AUTHENTICATE", "CAPABILITY")):
            return f"* CAPABILITY {self.capabilities}\r\n".encode()
        if command.startswith("ENABLE"):
            return f"* ENABLED {command.removeprefix('ENABLE ')}\r\n".encode()
        if command.startswith(("LIST", "STATUS")):
            status = f"* STATUS INBOX (MESSAGES {count} UIDVALIDITY 7 UIDNEXT {count + 1} UNSEEN 0 HIGHESTMODSEQ 9)\r\n"
            return (b'* LIST (\\Subscribed) "/" INBOX\r\n' if command.startswith("LIST") else b"") + status.encode()
        if command.startswith(("SELECT", "EXAMINE")):
            told = f"* {count} EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT {count + 1}] x\r\n"
            return told.encode() + b"* OK [HIGHESTMODSEQ 9] x\r\n"
        if command.startswith("UID SEARCH"):
            return f"* ESEARCH UID ALL 1:{count}\r\n".encode() if count else b"* ESEARCH UID\r\n"
        if command.startswith("UID FETCH"):
            rows = self.rows if "BODYSTRUCTURE" in command else [UNREADABLE] * count
            return b"".join(b"* %d FETCH (UID %d %b)\r\n" % (number, number, one) for number, one in enumerate(rows, 1))
        return b""


ENVELOPE = (
    b'("Mon, 1 Jan 2024 09:00:00 +0000" "Hello" (("Bob" NIL "bob" "x.test")) NIL NIL NIL NIL NIL NIL "<1@x.test>")'
)
PLAIN = b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 4 1)'


def row(envelope: bytes = ENVELOPE, structure: bytes = PLAIN) -> bytes:
    """What a client asks of a message for its list."""
    return (
        b'FLAGS () MODSEQ (5) INTERNALDATE " 1-Jan-2024 09:00:00 +0000" RFC822.SIZE 4 ENVELOPE %b BODYSTRUCTURE %b '
        b"BODY[HEADER.FIELDS (REFERENCES)] {2}\r\n\r\n" % (envelope, structure)
    )


ROW: bytes = row()
UNREADABLE = (
    b'FLAGS () MODSEQ (5) INTERNALDATE " 1-Jan-2024 09:00:00 +0000" RFC822.SIZE 4 BODY[HEADER] {20}\r\n'
    b"Subject: As it is\r\n\r\n"
)
"""The same where the structure is not asked for."""
