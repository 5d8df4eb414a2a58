"""Lists the newest mail of INBOX, page by page, and reads one message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx

PAGE = 20


def pages(client: httpx.Client, path: str, **query: Any) -> Iterator[dict[str, Any]]:
    """The items of a list, however many pages it has."""
    cursor: str | None = None
    while True:
        answer = client.get(path, params=query | ({"cursor": cursor} if cursor else {}))
        answer.raise_for_status()
        page = answer.json()
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['KEY']}"}
    with httpx.Client(base_url=f"{os.environ['URL']}/v1", headers=headers, timeout=30) as client:
        account = next(pages(client, "/accounts"))
        print(f"{account['email']}:")
        path = f"/accounts/{account['id']}/messages"
        listed = pages(client, path, mailbox_id="inbox", limit=PAGE, fields="id,subject,from,received_at")
        newest = None
        for number, message in enumerate(listed, 1):
            newest = newest or message
            sender = message["from"][0]["address"] if message["from"] else "-"
            print(f"{message['received_at']}  {sender:24}  {message['subject']}")
            if number == 2 * PAGE:
                break

        if newest is not None:
            whole = client.get(f"{path}/{newest['id']}", params={"view": "full"}).raise_for_status().json()
            print(f"\n{whole['subject']}\n\n{whole['text']}")


if __name__ == "__main__":
    main()
