"""Follows an account over a WebSocket, and resumes where it was after a lost connection.

`python follow_mail.py [COUNT]` ends after so many events; without a count, never.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def frames(url: str, key: str, account_id: str) -> AsyncIterator[dict[str, Any]]:
    """Every frame but `hello`, over as many connections as it takes: `connect` waits longer after each failure."""
    cursor = "now"
    async for socket in connect(url, additional_headers={"Authorization": f"Bearer {key}"}):
        try:
            subscribe = {"type": "subscribe", "sub_id": "mail", "accounts": [account_id], "after": cursor}
            await socket.send(json.dumps(subscribe))
            async for text in socket:
                frame = json.loads(text)
                if frame["type"] == "event":
                    cursor = frame["cursor"]  # the next subscription begins after it
                if frame["type"] == "subscribed" and cursor == "now":
                    cursor = frame["cursor"][account_id]
                if frame["type"] != "hello":
                    yield frame
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == 4401:
                raise SystemExit("The token is not valid any more") from None


async def main() -> None:
    left = int(sys.argv[1]) if len(sys.argv) > 1 else -1
    base_url, key = os.environ["URL"], os.environ["KEY"]
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers) as client:
        accounts = (await client.get("/v1/accounts")).raise_for_status().json()["items"]
    account_id = accounts[0]["id"]
    async for frame in frames(base_url.replace("http", "ws", 1) + "/v1/stream", key, account_id):
        match frame:
            case {"type": "subscribed"}:
                print("subscribed", flush=True)
            case {"type": "event", "event": event}:
                print(event["type"], json.dumps(event["data"], ensure_ascii=False), flush=True)
                left -= 1
            case {"type": "gap"}:  # away for longer than events are kept
                print(f"read GET /v1/accounts/{account_id}/changes", flush=True)
            case {"type": "error", "problem": problem}:
                raise SystemExit(problem["detail"])
        if left == 0:
            return


if __name__ == "__main__":
    asyncio.run(main())
