"""How late news is while much is moved: each delivery's frame beside the line of a bare client that idles.

Two programs move messages in bursts, one through Postgate and one at the server itself. Meanwhile messages are
delivered to INBOX and appended to another mailbox, at intervals of 0.1 s and more.
"""

import asyncio
import random
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import orjson
from tests.servers.dovecot import Dovecot, DovecotUser
from websockets.asyncio.client import ClientConnection

from benchmarks import messages
from benchmarks.clients import HOST, Http, Imap, Smtp
from benchmarks.stage import wait_until_live

SHORTEST_GAP_SECONDS = 0.1
LAST_NEWS_SECONDS = 40.0
"""How long after the last delivery news may still come: longer than Dovecot's own check of 30 s."""
OTHER_MAILBOX = "Junk"
_SEEDS_AT_ONCE = 200
_LIVE_SECONDS = 120.0
_SIZE = re.compile(rb"\* ([0-9]+) (EXISTS|EXPUNGE)\r\n")


@dataclass(frozen=True, slots=True)
class Plan:
    """`moves` messages in bursts of `burst`, and deliveries meanwhile until `deliveries` have been made.

    Of the deliveries every fourth goes to another mailbox. Their intervals are spread evenly by their logarithm.
    """

    moves: int = 1000
    burst: int = 100
    deliveries: int = 100
    longest_gap_seconds: float = 30.0
    seed: int = 1

    @property
    def gaps(self) -> list[float]:
        rng = random.Random(self.seed)
        ratio = self.longest_gap_seconds / SHORTEST_GAP_SECONDS
        return [SHORTEST_GAP_SECONDS * ratio ** rng.random() for _ in range(self.deliveries)]


@dataclass(slots=True)
class Lateness:
    """Milliseconds: of INBOX after the bare client's line, of the other mailbox after the delivery was answered.

    `line_ms`: the bare client's line after the delivery was answered. `apart_ms`: between it and the line of a second
    bare client, which is how far the server itself tells two clients apart. `lost` never came, `doubled` came twice.
    """

    inbox_ms: list[float] = field(default_factory=list)
    elsewhere_ms: list[float] = field(default_factory=list)
    line_ms: list[float] = field(default_factory=list)
    apart_ms: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    moved: int = 0

    @property
    def frame_ms(self) -> list[float]:
        """From the answer to a delivery to INBOX to its frame."""
        return [line + after for line, after in zip(self.line_ms, self.inbox_ms, strict=True)]


class Idler:
    """A bare client that idles on INBOX and notes when each message that arrives there is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrived_at: list[float] = []
        self._reader, self._writer = reader, writer
        self._size = 0
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, port: int, user: DovecotUser) -> Self:
        idler = cls(*await asyncio.open_connection(HOST, port))
        for command in (f"LOGIN {user.name} {user.password}", "SELECT INBOX"):
            idler._writer.write(f"A {command}\r\n".encode())
            async for line in idler._reader:
                if found := _SIZE.fullmatch(line):
                    idler._size = int(found[1])
                if line.startswith(b"A "):
                    break
        idler._writer.write(b"A IDLE\r\n")
        await idler._reader.readuntil(b"+ ")
        idler._listening = asyncio.create_task(idler._listen())
        return idler

    async def _listen(self) -> None:
        async for line in self._reader:
            found = _SIZE.fullmatch(line)
            if found is None:
                continue
            if found[2] == b"EXPUNGE":
                self._size -= 1
                continue
            now = time.perf_counter()
            self.arrived_at += [now] * (int(found[1]) - self._size)
            self._size = int(found[1])
            self._news.set()

    async def all_of(self, count: int, seconds: float) -> None:
        """Wait until so many arrivals were told: after its log was rotated, Dovecot tells a bare client 30 s late."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.arrived_at) < count:
                    await self._news.wait()
                    self._news.clear()

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        self._writer.close()


class Frames:
    """When the frame of each new message came, by subject; how often each came; how many messages moved."""

    def __init__(self, stream: ClientConnection) -> None:
        self.came_at: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.moved = 0
        self._news = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(stream))

    async def _listen(self, stream: ClientConnection) -> None:
        async for data in stream:
            frame, now = orjson.loads(data), time.perf_counter()
            if frame["type"] == "ping":
                await stream.send('{"type": "pong"}')
            if frame["type"] != "event":
                continue
            event = frame["event"]
            if event["type"] == "message.moved":
                self.moved += 1
            if event["type"] == "message.created":
                subject = event["data"]["message"]["subject"]
                self.came_at.setdefault(subject, now)
                self.counts[subject] += 1
                self._news.set()

    async def all_of(self, subjects: set[str], seconds: float) -> None:
        """Wait until the news of all these came, but no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not subjects <= self.came_at.keys():
                    await self._news.wait()
                    self._news.clear()

    def close(self) -> None:
        """Raises what ended the stream before."""
        if self._listening.done():
            self._listening.result()
            raise EOFError("the stream ended")
        self._listening.cancel()


@dataclass(slots=True)
class Movers:
    """Move messages to and fro, in bursts: by turns through Postgate and at the server."""

    http: Http
    imap: Imap
    account: str
    burst: int
    done: int = 0

    async def run(self, moves: int, pause_seconds: float) -> None:
        roles = await self.http.call("GET", f"{self.account}/mailboxes")
        ids = {one["path"]: one["id"] for one in roles["items"]}
        bursts = moves // self.burst
        half = -(-bursts // 2)
        for turn in range(bursts):
            source = "INBOX" if turn < half else ("Archive", "Trash")[(turn - half) % 2]
            target = "Trash" if source == "Archive" else "Archive"
            if turn % 2:
                await self._at_the_server(source, target)
            else:
                await self._through_postgate(ids[source], ids[target])
            await asyncio.sleep(pause_seconds)

    async def _through_postgate(self, source: str, target: str) -> None:
        """The oldest messages, so that those just delivered stay."""
        page = await self.http.call(
            "GET", f"{self.account}/messages?mailbox_id={source}&limit={self.burst}&sort=received_at"
        )
        ids = [one["id"] for one in page["items"]]
        if ids:
            order = {"message_ids": ids, "mailbox_id": target}
            answer = await self.http.call("POST", f"{self.account}/messages/move", order)
            self.done += answer["summary"]["ok"]

    async def _at_the_server(self, source: str, target: str) -> None:
        selected = await self.imap.command(f"SELECT {source}")
        size = max(int(found[1]) for found in _SIZE.finditer(selected))
        answer = await self.imap.command(f"MOVE 1:{min(size, self.burst)} {target}")
        self.done += answer.count(b" EXPUNGE\r\n")
        await self.imap.command("UNSELECT")


async def add_account(http: Http, dovecot: Dovecot, user: DovecotUser, count: int) -> str:
    """Give the user `count` messages, and Postgate the account; its id, once it is live."""
    imap = await Imap.login(dovecot.imap_port, user.name, user.password)
    for start in range(0, count, _SEEDS_AT_ONCE):
        contents = [messages.small(number, "Seed") for number in range(start, min(start + _SEEDS_AT_ONCE, count))]
        literals = b"".join(b" () {%d+}\r\n%b" % (len(content), content) for content in contents)
        await imap.command(b"APPEND INBOX" + literals)
    imap.close()
    login = {"host": HOST, "port": dovecot.imap_port, "security": "none"}
    account = await http.call(
        "POST",
        "/v1/accounts",
        {"kind": "imap", "email": user.name, "imap": login | {"username": user.name, "password": user.password}},
    )
    await wait_until_live(http, account["id"], _LIVE_SECONDS)
    return str(account["id"])


async def measure(
    stream: ClientConnection, http: Http, account_id: str, dovecot: Dovecot, user: DovecotUser, plan: Plan
) -> Lateness:
    """The user's INBOX holds at least half as many messages as are to be moved."""
    imap_port, lmtp_port = dovecot.imap_port, dovecot.lmtp_port
    idlers, frames = [await Idler.open(imap_port, user) for _ in range(2)], Frames(stream)
    mover = await Imap.login(imap_port, user.name, user.password)
    movers = Movers(http, mover, f"/v1/accounts/{account_id}", plan.burst)
    pause = sum(plan.gaps) / max(1, plan.moves // plan.burst)
    moving = asyncio.create_task(movers.run(plan.moves, pause))
    deliveries = await _Deliveries.open(imap_port, lmtp_port, user)
    try:
        await deliveries.run(plan)
        await moving
        await frames.all_of(deliveries.subjects, LAST_NEWS_SECONDS)
        await asyncio.gather(*(idler.all_of(len(deliveries.inbox), LAST_NEWS_SECONDS) for idler in idlers))
        await asyncio.sleep(1)
    finally:
        moving.cancel()
        for idler in idlers:
            await idler.close()
        frames.close()
        mover.close()
        deliveries.close()
    found = _lateness(deliveries, idlers[0], frames, movers)
    found.apart_ms = [abs(a - b) * 1000 for a, b in zip(*(one.arrived_at for one in idlers), strict=True)]
    return found


class _Deliveries:
    """Deliveries to INBOX and to another mailbox; when each was answered."""

    def __init__(self, lmtp: Smtp, imap: Imap, user: DovecotUser) -> None:
        self.inbox: dict[str, float] = {}
        self.elsewhere: dict[str, float] = {}
        self._lmtp, self._imap, self._user = lmtp, imap, user

    @classmethod
    async def open(cls, imap_port: int, lmtp_port: int, user: DovecotUser) -> Self:
        lmtp = await Smtp.connect(lmtp_port)
        await lmtp.greet("LHLO")
        return cls(lmtp, await Imap.login(imap_port, user.name, user.password, "Sent"), user)

    @property
    def subjects(self) -> set[str]:
        return {*self.inbox, *self.elsewhere}

    async def run(self, plan: Plan) -> None:
        for number, gap in enumerate(plan.gaps):
            await asyncio.sleep(gap)
            content = messages.small(number, "Late")
            if number % 4 == 3:
                await self._imap.command(b"APPEND %b {%d+}\r\n%b" % (OTHER_MAILBOX.encode(), len(content), content))
                self.elsewhere[f"Late {number}"] = self._imap.received_at
            else:
                sent_at = await self._lmtp.send("ann.lee@elsewhere.test", self._user.name, content)
                self.inbox[f"Late {number}"] = sent_at

    def close(self) -> None:
        self._lmtp.close()
        self._imap.close()


def _lateness(deliveries: _Deliveries, idler: Idler, frames: Frames, movers: Movers) -> Lateness:
    found = Lateness(moved=movers.done)
    for (subject, sent_at), line_at in zip(deliveries.inbox.items(), idler.arrived_at, strict=True):
        found.line_ms.append((line_at - sent_at) * 1000)
        if subject in frames.came_at:
            found.inbox_ms.append((frames.came_at[subject] - line_at) * 1000)
    for subject, sent_at in deliveries.elsewhere.items():
        if subject in frames.came_at:
            found.elsewhere_ms.append((frames.came_at[subject] - sent_at) * 1000)
    found.lost = sorted(deliveries.subjects - frames.came_at.keys())
    found.doubled = [subject for subject in deliveries.subjects if frames.counts[subject] > 1]
    return found
