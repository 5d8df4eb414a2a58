"""Mail is pushed from mox, which reports each change at once by NOTIFY. Skipped where POSTGATE_MOX names no binary."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from benchmarks import messages
from benchmarks.clients import HOST, Http, Imap
from benchmarks.stage import wait_until_live
from websockets.asyncio.client import ClientConnection, connect

from tests.servers.mox import Mox
from tests.servers.postgate import Postgate
from tests.servers.process import started

APPENDED = 20
BURST = 50
LIVE_SECONDS = 60.0
EVENT_SECONDS = 30.0


@pytest.fixture
def mox(tmp_path: Path) -> Iterator[Mox]:
    with started(Mox(tmp_path / "mox.log")) as server:
        yield server


@dataclass
class Followed:
    """The account of mox in a gateway, a subscriber to it, and another mail program at the server."""

    http: Http
    account_id: str
    stream: ClientConnection
    other: Imap

    @property
    def path(self) -> str:
        return f"/v1/accounts/{self.account_id}"

    async def message_event(self) -> dict[str, Any]:
        """The next event of a message."""
        async with asyncio.timeout(EVENT_SECONDS):
            while True:
                frame = orjson.loads(await self.stream.recv())
                if frame["type"] == "event" and frame["event"]["type"].startswith("message."):
                    return dict(frame["event"])

    async def event(self, type_: str) -> dict[str, Any]:
        """The next event of a message that is more than an update of it; it is of this type."""
        event = await self.message_event()
        while event["type"] == "message.updated":  # a preview, or flags of mox itself
            event = await self.message_event()
        assert event["type"] == type_, event
        return event

    async def moved(self, count: int) -> list[str]:
        """The ids of the next messages that events report as moved.

        An arrival that cannot be proven to be a message from elsewhere is new until its original is gone: then it is
        told as deleted, `merged`, and the original as moved.
        """
        others: list[str] = []
        found: list[str] = []
        while len(found) < count:
            try:
                event = await self.message_event()
            except TimeoutError:
                pytest.fail(f"{len(found)} moves were told, and {others}")
            if event["type"] == "message.moved":
                found.append(event["data"]["message_id"])
            elif event["type"] != "message.updated":
                others.append(f"{event['type']} {event['data']}")
        return found

    async def append(self, mailbox: str, number: int) -> float:
        """Append a message at the server; when that was answered (perf_counter seconds)."""
        content = messages.small(number, "Told")
        await self.other.command(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(content), content))
        return self.other.received_at

    async def mailbox_ids(self) -> dict[str, str]:
        return {one["path"]: one["id"] for one in (await self.http.call("GET", f"{self.path}/mailboxes"))["items"]}


@pytest.fixture
async def followed(gateway: Postgate, mox: Mox) -> AsyncIterator[Followed]:
    http = await Http.open(int(gateway.base_url.rpartition(":")[2]), gateway.key)
    login = {"host": HOST, "port": mox.imap_port, "security": "none", "username": mox.user, "password": mox.password}
    account = await http.call("POST", "/v1/accounts", {"kind": "imap", "email": mox.user, "imap": login})
    await wait_until_live(http, account["id"], LIVE_SECONDS)
    url = gateway.base_url.replace("http", "ws", 1) + "/v1/stream"
    async with connect(url, additional_headers={"Authorization": f"Bearer {gateway.key}"}, max_queue=None) as stream:
        await stream.send(orjson.dumps({"type": "subscribe", "sub_id": "s", "accounts": [account["id"]]}).decode())
        while "subscribed" not in str(await stream.recv()):
            pass
        other = await Imap.login(mox.imap_port, mox.user, mox.password)
        yield Followed(http, account["id"], stream, other)
        other.close()
    http.close()


async def test_mox_is_followed_by_notify(followed: Followed) -> None:
    """While somebody follows the account: the mode is written with the next change."""
    mode, number = "", 0
    async with asyncio.timeout(LIVE_SECONDS):
        while mode != "notify":
            await followed.append("INBOX", number := number + 1)
            await followed.event("message.created")
            mode = (await followed.http.call("GET", followed.path))["sync"]["mode"]


@pytest.mark.parametrize("mailbox", ["INBOX", "Archive"])
async def test_each_message_appended_at_mox_is_one_event_in_order(followed: Followed, mailbox: str) -> None:
    """The times from the answer to the frame are logged: `pytest -rP` shows them."""
    spans: list[float] = []
    for number in range(APPENDED):
        answered_at = await followed.append(mailbox, number)
        event = await followed.event("message.created")
        spans.append((time.perf_counter() - answered_at) * 1000)
        assert event["data"]["message"]["subject"] == f"Told {number}"
    spans.sort()
    logging.getLogger(__name__).warning(
        "%s: frame after the append: p50 %.0f ms, slowest %.0f ms", mailbox, spans[len(spans) // 2], spans[-1]
    )


async def test_moves_at_mox_and_through_postgate_are_moves_and_mail_meanwhile_is_told(followed: Followed) -> None:
    for number in range(BURST):
        await followed.append("INBOX", number)
    created = [await followed.event("message.created") for _ in range(BURST)]
    ids = [event["data"]["message"]["id"] for event in created]

    await followed.other.command("SELECT INBOX")
    await followed.other.command(f"MOVE 1:{BURST} Archive")
    assert sorted(await followed.moved(BURST)) == sorted(ids)

    inbox = (await followed.mailbox_ids())["INBOX"]
    answer, _ = await asyncio.gather(
        followed.http.call("POST", f"{followed.path}/messages/move", {"message_ids": ids, "mailbox_id": inbox}),
        followed.append("INBOX", BURST),
    )
    assert answer["summary"]["ok"] == BURST
    event = await followed.message_event()
    while event["type"] != "message.created":
        event = await followed.message_event()
    assert event["data"]["message"]["subject"] == f"Told {BURST}"
