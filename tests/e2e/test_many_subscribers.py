"""2,000 streams on one account: each gets every event and a proper end, and none of it holds the event loop."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.loop_time import LOOP_MS, held
from tests.servers.postgate import Postgate, running_postgate

SUBSCRIBERS = 2_000
EVENTS = 10
CATCHING_UP = 20
pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


async def subscriber(stack: AsyncExitStack, server: Postgate, after: str = "now") -> Any:
    url = server.base_url.replace("http", "ws", 1) + "/v1/stream"
    headers = {"Authorization": f"Bearer {server.key}"}
    stream = await stack.enter_async_context(
        connect(url, additional_headers=headers, open_timeout=60, max_queue=None, ping_interval=None)
    )
    account_id = server.user()["account_id"]
    await stream.send(json.dumps({"type": "subscribe", "sub_id": "s", "accounts": [account_id], "after": after}))
    return stream


async def next_event(stream: Any) -> int:
    """The number of the next event; pings are answered."""
    while True:
        frame = json.loads(await asyncio.wait_for(stream.recv(), 120))
        if frame["type"] == "ping":
            await stream.send('{"type": "pong"}')
        elif frame["type"] == "event":
            return int(frame["seq"])


async def end_of(stream: Any) -> tuple[str, int]:
    """The type of the last frame, and the close code."""
    last = ""
    try:
        while True:
            last = json.loads(await stream.recv())["type"]
    except ConnectionClosed as closed:
        return last, int(closed.rcvd.code) if closed.rcvd else 1006


def flag(server: Postgate, rounds: int) -> None:
    """Change the first message's keywords, an event each time."""
    with server.client() as client:
        path = f"{server.account_path()}/messages"
        id_ = client.get(path, params={"limit": 1}).json()["items"][0]["id"]
        for number in range(rounds):
            change = {"keywords": {"remove" if number % 2 else "add": ["$flagged"]}}
            client.patch(f"{path}/{id_}", json=change).raise_for_status()


def fill(server: Postgate) -> None:
    """Some 9,000 events."""
    connection = server.imap()
    connection.select("INBOX")
    for number in range(150):
        connection.append("INBOX", "", "", f"Subject: {number}\r\n\r\nText\r\n".encode())
    connection.select("INBOX")
    for number in range(28):
        connection.store("1:*", "-FLAGS" if number % 2 else "+FLAGS", "(\\Flagged)")
    connection.logout()


async def test_two_thousand_subscribers_hear_every_event_and_the_end(tmp_path: Path) -> None:
    with running_postgate(tmp_path, DEBUG_LOOP_MS=str(LOOP_MS)) as server:
        async with AsyncExitStack() as stack:
            streams = [await subscriber(stack, server) for _ in range(SUBSCRIBERS)]
            for stream in streams:
                while json.loads(await stream.recv())["type"] != "subscribed":
                    pass
            before = await asyncio.to_thread(held, server)
            await asyncio.to_thread(flag, server, EVENTS)
            heard = await asyncio.gather(*(hear(stream, EVENTS) for stream in streams))
            after = await asyncio.to_thread(held, server)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            ends = Counter(await asyncio.gather(*(end_of(stream) for stream in streams)))
            await stopping

    assert len(set(heard)) == 1
    assert heard[0] == tuple(range(heard[0][0], heard[0][0] + EVENTS))
    assert ends == {("bye", 1001): SUBSCRIBERS}
    assert after - before == Counter()


async def hear(stream: Any, count: int) -> tuple[int, ...]:
    return tuple([await next_event(stream) for _ in range(count)])


async def test_subscribers_that_catch_up_on_thousands_of_events_hold_up_nobody(tmp_path: Path) -> None:
    with running_postgate(tmp_path, DEBUG_LOOP_MS=str(LOOP_MS)) as server:
        await asyncio.to_thread(fill, server)
        before = await asyncio.to_thread(held, server)
        async with AsyncExitStack() as stack:
            streams = [await subscriber(stack, server, "earliest") for _ in range(CATCHING_UP)]
            heard = await asyncio.gather(*(hear(stream, 8_000) for stream in streams))
        after = await asyncio.to_thread(held, server)

    assert set(heard) == {tuple(range(1, 8_001))}
    assert after - before == Counter()
