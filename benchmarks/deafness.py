"""`python -m benchmarks.deafness`: when a real Dovecot tells a waiting client late, and by how much.

Each way of waiting is tried on a connection of its own, in each mail format. A message is delivered to INBOX and one is
appended to Archive; the figures are the seconds until the client's line. Dovecot gathers news for 0.5 s: 0.5 is right.
"""

import argparse
import asyncio
import math
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.servers.dovecot import Dovecot, DovecotUser, MailFormat
from tests.servers.tls import make_tls_files

from benchmarks import messages
from benchmarks.clients import HOST, Imap

_EVENTS = "(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)"
_SET = f"NOTIFY SET STATUS (personal {_EVENTS})"
_SELECTED = f"NOTIFY SET STATUS (selected (MessageNew MessageExpunge FlagChange)) (personal {_EVENTS})"
WAYS: dict[str, Sequence[str]] = {
    "IDLE on INBOX": ("SELECT INBOX", "IDLE"),
    "NOTIFY SET": (_SET,),
    "NOTIFY SET, SET": (_SET, _SET),
    "NOTIFY SET, NONE, SET": (_SET, "NOTIFY NONE", _SET),
    "NOTIFY SET, SET, SET": (_SET, _SET, _SET),
    "INBOX selected, NOTIFY SET": ("SELECT INBOX", _SELECTED),
}
_PAUSE_SECONDS = 8.0
"""Between asking and the delivery, so that a check every 30 s is far away."""
_PATIENCE_SECONDS = 35.0
_ROTATING = "mail_index_log_rotate_min_size = 1k\nmail_index_log_rotate_min_age = 1s\n"
_MANY_SESSIONS = 135
"""More than the inotify instances that Linux gives one user (128)."""


@dataclass(slots=True)
class Waiting:
    """A client that waits, and what it was told."""

    name: str
    writer: asyncio.StreamWriter
    lines: list[tuple[float, bytes]] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, name: str, port: int, user: DovecotUser, commands: Sequence[str]) -> Self:
        reader, writer = await asyncio.open_connection(HOST, port)
        waiting = cls(name, writer)
        await reader.readline()
        for command in (f"LOGIN {user.name} {user.password}", *commands):
            writer.write(f"A {command}\r\n".encode())
            async for line in reader:
                if line.startswith((b"A ", b"+ ")):
                    break
            if line.startswith((b"A NO", b"A BAD")):
                name = f"{name}: {line.decode().strip()[2:]}"
        waiting.name = name
        waiting._reading = asyncio.create_task(waiting._read(reader))
        return waiting

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            self.lines.append((time.monotonic(), line))

    def seconds(self, since: float, *words: bytes) -> float:
        """Until the first line with one of these words after `since`; infinite where none came."""
        return next(
            (at - since for at, line in self.lines if at > since and any(word in line for word in words)), math.inf
        )

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self.writer.close()


@dataclass(frozen=True, slots=True)
class Stage:
    dovecot: Dovecot
    user: DovecotUser

    async def open_all(self, names: Sequence[str] = tuple(WAYS)) -> list[Waiting]:
        return [await Waiting.open(name, self.dovecot.imap_port, self.user, WAYS[name]) for name in names]

    async def deliver(self) -> float:
        await asyncio.to_thread(self.dovecot.deliver, messages.small(1), self.user.name)
        return time.monotonic()

    async def append(self, giver: Imap, mailbox: str = "Archive") -> float:
        content = messages.small(2)
        await giver.command(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(content), content))
        return time.monotonic()

    async def giver(self) -> Imap:
        return await Imap.login(self.dovecot.imap_port, self.user.name, self.user.password, "Sent")

    async def tell(self, waiting: Sequence[Waiting], title: str) -> None:
        """Deliver, wait, and print when each client heard of it."""
        giver = await self.giver()
        inbox_at, archive_at = await self.deliver(), await self.append(giver)
        for _ in range(int(_PATIENCE_SECONDS * 10)):
            if all(_is_told(one, inbox_at, archive_at) for one in waiting):
                break
            await asyncio.sleep(0.1)
        giver.close()
        print(f"\n{title}\n{'':64}{'INBOX':>8}{'Archive':>9}")
        for one in waiting:
            inbox = one.seconds(inbox_at, b" EXISTS", b"STATUS INBOX")
            print(f"  {one.name:62}{inbox:8.1f}{one.seconds(archive_at, b'STATUS Archive'):9.1f}", flush=True)


def _is_told(one: Waiting, inbox_at: float, archive_at: float) -> bool:
    is_told = one.seconds(inbox_at, b" EXISTS", b"STATUS INBOX") < math.inf
    return is_told and (one.name.startswith("IDLE") or one.seconds(archive_at, b"STATUS Archive") < math.inf)


async def _asked_again(stage: Stage) -> None:
    waiting = await stage.open_all()
    await asyncio.sleep(_PAUSE_SECONDS)
    await stage.tell(waiting, f"{stage.user.format}: asked {_PAUSE_SECONDS:.0f} s before")
    await stage.tell(waiting, f"{stage.user.format}: the next delivery, right after")
    for one in waiting:
        one.close()


async def _rotated(stage: Stage) -> None:
    """The logs are rotated while the clients wait."""
    waiting = await stage.open_all(["IDLE on INBOX", "NOTIFY SET", "INBOX selected, NOTIFY SET"])
    giver = await stage.giver()
    for number in range(60):
        await stage.append(giver, "INBOX" if number % 2 else "Archive")
        await asyncio.sleep(0.1)
    await giver.command("CREATE Rotated")
    giver.close()
    await asyncio.sleep(_PAUSE_SECONDS)
    await stage.tell(waiting, f"{stage.user.format}: after the logs were rotated")
    for one in waiting:
        one.close()


async def _without_inotify(stage: Stage) -> None:
    """The system user has no inotify instance left."""
    port, user = stage.dovecot.imap_port, stage.user
    others = [await Imap.login(port, user.name, user.password) for _ in range(_MANY_SESSIONS)]
    for other in others:
        await other.idle()
    waiting = await stage.open_all(["IDLE on INBOX", "NOTIFY SET"])
    await asyncio.sleep(_PAUSE_SECONDS)
    await stage.tell(waiting, f"{stage.user.format}: {_MANY_SESSIONS} other sessions of the same system user idle")
    for one in waiting:
        one.close()
    for other in others:
        other.close()


async def _on(
    folder: Path,
    format: MailFormat,
    part: Callable[[Stage], Awaitable[None]],
    *,
    has_list_index: bool = True,
    more: str = "",
) -> None:
    tls = make_tls_files(folder)
    async with AsyncExitStack() as stack:
        dovecot = Dovecot(tls, folder / "dovecot.log", has_list_index=has_list_index, more=more)
        stack.callback(dovecot.close)
        await asyncio.to_thread(dovecot.start)
        stage = Stage(dovecot, dovecot.add_user("ann@mail.test", format=format))
        await stage.deliver()
        await part(stage)


async def _run(folder: Path, formats: Sequence[MailFormat]) -> None:
    for format in formats:
        await _on(folder, format, _asked_again)
        await _on(folder, format, _rotated, more=_ROTATING)
    await _on(folder, formats[0], _without_inotify)
    print("\nwithout mailbox_list_index:")
    await _on(folder, formats[0], _asked_again, has_list_index=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deafness", description=__doc__)
    parser.add_argument("--format", action="append", choices=["mdbox", "sdbox", "maildir"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postgate-deaf-") as name:
        Path(name).chmod(0o755)
        asyncio.run(_run(Path(name), asked.format or ["mdbox", "sdbox", "maildir"]))


if __name__ == "__main__":
    main()
