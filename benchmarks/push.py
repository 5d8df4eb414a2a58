"""How long after a delivery was answered its news arrives: as a frame of the stream, and at a waiting bare client."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
    """Milliseconds from the delivery's answer to the news, a delivery at a time; negative where the news was faster.

    `line` is that of the bare client.
    """

    frame: list[float] = field(default_factory=list)
    line: list[float] = field(default_factory=list)

    @property
    def over_line_ms(self) -> float:
        """How much later the frame came than the bare client's line, at the median."""
        return statistics.median(frame - line for frame, line in zip(self.frame, self.line, strict=True))


Deliver = Callable[[int, str], Awaitable[float]]
"""Deliver a message (its number, its subject); when that was answered (perf_counter seconds)."""


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
    """Deliver `count` messages by LMTP to a mailbox that `idler` has selected."""
    lmtp = await Smtp.connect(lmtp_port)
    await lmtp.greet("LHLO")
    await idler.idle()

    async def deliver(number: int, subject: str) -> float:
        return await lmtp.send("ann.lee@elsewhere.test", recipient, messages.small(number, subject))

    times = await _compare(stream, idler, b" EXISTS", deliver, count)
    lmtp.close()
    return times


async def measure_push_elsewhere(
    stream: ClientConnection, notified: Imap, giver: Imap, mailbox: str, count: int
) -> PushTimes:
    """Append `count` messages to a mailbox that nobody has selected; `notified` hears by NOTIFY (RFC 5465)."""
    await notified.command("NOTIFY SET (personal (MessageNew MessageExpunge))")

    async def deliver(number: int, subject: str) -> float:
        content = messages.small(number, subject)
        await giver.command(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(content), content))
        return giver.received_at

    return await _compare(stream, notified, b"* STATUS", deliver, count)


async def _compare(stream: ClientConnection, waiting: Imap, word: bytes, deliver: Deliver, count: int) -> PushTimes:
    """Deliver at uneven intervals, and see when the frame comes and when the waiting client's line with this word."""
    times, rng = PushTimes(), random.Random(1)
    for number in range(count):
        await asyncio.sleep(_PAUSE_SECONDS + rng.random() * 0.3)
        subject = f"Push {number} of {count}"
        frame = asyncio.create_task(_frame_of(stream, subject))
        line = asyncio.create_task(waiting.pushed(word))
        delivered_at = await deliver(number, subject)
        for seen_at, gathered in ((await frame, times.frame), (await line, times.line)):
            gathered.append((seen_at - delivered_at) * 1000)
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
