"""Sends a message once, however often the request is repeated, and waits until the next mail server has taken it."""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

import httpx

WAIT_SECONDS = 30


def send(client: httpx.Client, path: str, message: dict[str, Any]) -> dict[str, Any]:
    """The submission. A lost answer or a busy server is followed by the same request with the same key."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    for pause_seconds in (1, 2, 4):
        try:
            answer = client.post(path, json=message, headers=headers)
            if answer.status_code not in (429, 503):
                break
        except httpx.TransportError as error:
            print(f"trying again: {error}", file=sys.stderr)
        time.sleep(pause_seconds)
    else:
        answer = client.post(path, json=message, headers=headers)
    submission: dict[str, Any] = answer.raise_for_status().json()
    return submission


def main() -> None:
    [recipient] = sys.argv[1:]
    headers = {"Authorization": f"Bearer {os.environ['KEY']}"}
    with httpx.Client(base_url=f"{os.environ['URL']}/v1", headers=headers, timeout=30) as client:
        account = client.get("/accounts").raise_for_status().json()["items"][0]
        path = f"/accounts/{account['id']}"
        message = {"to": [recipient], "subject": "Hello", "text": "Sent by an example."}
        submission = send(client, f"{path}/send", message)
        deadline = time.monotonic() + WAIT_SECONDS
        while submission["status"] in ("queued", "sending") and time.monotonic() < deadline:
            time.sleep(0.2)
            submission = client.get(f"{path}/submissions/{submission['id']}").raise_for_status().json()
        print(f"{submission['id']} {submission['status']}")


if __name__ == "__main__":
    main()
