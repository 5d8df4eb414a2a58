"""How long after a delivery was answered its news arrives: as a frame of the stream, and at a client that idles."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import messages
from benchmarks.clients import DEADLINE_SECONDS, HOST, Imap, Smtp
from benchmarks.stage import Gateway

_PAUSE_SECONDS = 0.7
"""Dovecot gathers the news of half a second into one notification."""


@dataclass(slots=True)
class PushTimes:
    """Milliseconds from the delivery's 250 to the news, a delivery at a time; negative where the news was faster."""

    frame: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)

    @property
    def over_idle_ms(self) -> float:
        """How much later the frame came than the bare client's line, at the median."""
        return statistics.median(frame - idle for frame, idle in zip(self.frame, self.idle, strict=True))


@asynccontextmanager
async def following(gateway: Gateway, account_id: str) -> AsyncIterator[ClientConnection]:
    """A stream subscribed to the account."""
    async with connect(
        f"ws://{HOST}:{gateway.http_port}/v1/stream",
        additional_headers={"Authorization": f"Bearer {gateway.key}"},
        compression=None,
    ) as stream:
        await stream.send(orjson.dumps({"type": "subscribe", "sub_id": "s1", "accounts": [account_id]}).decode())
        while orjson.loads(await stream.recv())["type"] != "subscribed":
            pass
        yield stream


async def measure_push(stream: ClientConnection, idler: Imap, lmtp_port: int, recipient: str, count: int) -> PushTimes:
    """Deliver `count` messages by LMTP, at uneven intervals, to a mailbox that `idler` has selected."""
    times, rng = PushTimes(), random.Random(1)
    lmtp = await Smtp.connect(lmtp_port)
    await lmtp.greet("LHLO")
    await idler.idle()
    for number in range(count):
        await asyncio.sleep(_PAUSE_SECONDS + rng.random() * 0.3)
        subject = f"Push {number} of {count}"
        frame = asyncio.create_task(_frame_of(stream, subject))
        line = asyncio.create_task(idler.pushed(b" EXISTS"))
        delivered_at = await lmtp.send("ann.lee@elsewhere.test", recipient, messages.small(number, subject))
        for seen_at, gathered in ((await frame, times.frame), (await line, times.idle)):
            gathered.append((seen_at - delivered_at) * 1000)
    lmtp.close()
    return times


async def _frame_of(stream: ClientConnection, subject: str) -> float:
    """When the `message.created` of this subject came (perf_counter seconds)."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            frame = orjson.loads(await stream.recv())
            now = time.perf_counter()
            if frame["type"] != "event" or frame["event"]["type"] != "message.created":
                continue
            if frame["event"]["data"]["message"]["subject"].startswith(subject):
                return now


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
