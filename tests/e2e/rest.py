"""What the tests of remote accounts ask by REST."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx2


def eventually(read: Callable[[], Any], expected: Any, seconds: float = 20.0) -> None:
    """Read again until it is what is expected, or time is up."""
    deadline = time.monotonic() + seconds
    while (found := read()) != expected:
        assert time.monotonic() < deadline, f"{found!r} is not {expected!r}"
        time.sleep(0.05)


def subjects(client: httpx2.Client, account: str, role: str = "inbox") -> list[str]:
    """The subjects in the mailbox of a role, sorted; `account` is the account's path."""
    mailbox = mailbox_of(client, account, role)
    listed = client.get(f"{account}/messages", params={"mailbox_id": mailbox, "limit": 500}).json()["items"]
    return sorted(one["subject"] for one in listed)


def mailbox_of(client: httpx2.Client, account: str, role: str) -> str:
    """The id of the mailbox of a role."""
    mailboxes = client.get(f"{account}/mailboxes").json()["items"]
    return str(next(one["id"] for one in mailboxes if one["role"] == role))
