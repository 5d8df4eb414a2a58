"""A subscriber of one account's stream that keeps a copy of its mail, as an app would, and is cut off at random."""

from __future__ import annotations

import json
import random
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.servers.postgate import Postgate

LOST = (OSError, EOFError, TimeoutError, ConnectionClosed, InvalidHandshake, InvalidMessage, httpx2.HTTPError)
"""What a subscriber sees when the gateway or the connection ends."""
Shown = tuple[str, tuple[str, ...], str]
"""Mailbox, keywords and subject of a message."""


@dataclass
class Copy:
    """What the subscriber believes: mailbox id → path, message id → what is shown of it."""

    mailboxes: dict[str, str] = field(default_factory=dict)
    messages: dict[str, Shown] = field(default_factory=dict)


class Subscriber:
    """Follows in a thread until `finish`. Resumes each time at its cursor."""

    def __init__(self, gateway: Postgate, account_id: str, seed: int, *, frames_between_cuts: int) -> None:
        self.copy = Copy()
        self.cuts = self.gaps = self.reread = 0
        self.is_done = False
        self._gateway = gateway
        self._path = f"/v1/accounts/{account_id}"
        self._account_id = account_id
        self._chance = random.Random(seed)
        self._between = frames_between_cuts
        self._cursor: str | None = None
        self._seq = 0
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="subscriber", daemon=True)

    def start(self) -> None:
        """Read what is there, then follow."""
        self._read_anew()
        self._thread.start()

    def finish(self, seconds: float = 60.0) -> Copy:
        """Follow until nothing comes any more; what is believed then."""
        self._is_ending.set()
        self._thread.join(seconds)
        assert self.is_done, "the subscriber failed, or the stream does not come to an end"
        return self.copy

    # ---- following

    def _run(self) -> None:
        while not self._follow():
            self.cuts += 1
        self.is_done = True

    def _follow(self) -> bool:
        """One connection; True when it is over because all was heard."""
        left = self._chance.randint(1, 2 * self._between)
        with suppress(*LOST), self._gateway.stream() as socket:
            wanted = {"type": "subscribe", "sub_id": "s", "accounts": [self._account_id], "after": self._cursor}
            socket.send(json.dumps(wanted))
            while left or self._is_ending.is_set():
                try:
                    frame = json.loads(socket.recv(1))
                except TimeoutError:
                    if self._is_ending.is_set():
                        return True
                    continue
                self._take(frame)
                left = max(0, left - (frame["type"] == "event"))
        self._is_ending.wait(0.05)
        return False

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "subscribed" | "counts" | "ping" | "lifecycle" | "bye":
                pass
            case "event":
                assert frame["seq"] in (self._seq + 1, self._seq) or not self._seq, (self._seq, frame)
                self._apply(frame["event"])
                self._seq, self._cursor = frame["seq"], frame["cursor"]
            case "gap" | "state":
                self.gaps += 1
                self._read_anew()
            case _:
                raise AssertionError(frame)

    def _apply(self, event: dict[str, Any]) -> None:
        kind, _, what = event["type"].partition(".")
        if kind == "message":
            self._apply_to_message(what, event["subject"], event["data"])
        elif kind == "mailbox":
            self._apply_to_mailbox(what, event["subject"], event["data"])
        elif event["type"] == "sync.progress" and event["data"]["is_complete"]:
            self._read_mailbox(event["data"]["mailbox_id"])

    def _apply_to_message(self, what: str, id_: str, data: dict[str, Any]) -> None:
        messages = self.copy.messages
        if what == "created":
            messages[id_] = _shown(data["message"])
        elif what == "deleted":
            messages.pop(id_, None)
        elif id_ not in messages:
            self._read_one(id_)
        elif what == "moved":
            messages[id_] = (data["to"][0], *messages[id_][1:])
        else:
            messages[id_] = (messages[id_][0], _sorted(data["keywords"]), messages[id_][2])

    def _apply_to_mailbox(self, what: str, id_: str, data: dict[str, Any]) -> None:
        if what in ("created", "updated"):
            self.copy.mailboxes[id_] = data["path"]
            return
        self._forget(id_)
        if what == "deleted":
            self.copy.mailboxes.pop(id_, None)

    # ---- reading by REST

    def _forget(self, mailbox_id: str) -> None:
        gone = [id_ for id_, shown in self.copy.messages.items() if shown[0] == mailbox_id]
        for id_ in gone:
            del self.copy.messages[id_]

    def _read_one(self, message_id: str) -> None:
        with self._gateway.client() as client:
            answer = client.get(f"{self._path}/messages/{message_id}")
        if answer.status_code == 200:
            self.copy.messages[message_id] = _shown(answer.json())
        elif answer.status_code != 404:
            answer.raise_for_status()

    def _read_mailbox(self, mailbox_id: str) -> None:
        """A first sync tells no message of its own."""
        self.reread += 1
        with self._gateway.client() as client:
            found = read_messages(client, self._path, mailbox_id)
        self._forget(mailbox_id)
        self.copy.messages |= found

    def _read_anew(self) -> None:
        with self._gateway.client() as client:
            self.copy, self._cursor = read_all(client, self._path)
        self._seq = 0


def read_all(client: httpx2.Client, path: str) -> tuple[Copy, str]:
    """Every mailbox and message by REST, and the state that was true before the first of them."""
    answer = client.get(f"{path}/mailboxes").raise_for_status().json()
    mailboxes = {one["id"]: one["path"] for one in answer["items"]}
    return Copy(mailboxes, read_messages(client, path)), answer["state"]


def read_messages(client: httpx2.Client, path: str, mailbox_id: str | None = None) -> dict[str, Shown]:
    """Messages of one mailbox or of all."""
    wanted: dict[str, Any] = {"limit": 500} | ({"mailbox_id": mailbox_id} if mailbox_id else {"in": "anywhere"})
    found: dict[str, Shown] = {}
    while True:
        answer = client.get(f"{path}/messages", params=wanted)
        if answer.status_code == 404:  # the mailbox is gone by now, as an event to come says
            return {}
        if answer.status_code == 410:  # its UIDVALIDITY changed between two pages
            wanted.pop("cursor", None)
            continue
        page = answer.raise_for_status().json()
        found |= {one["id"]: _shown(one) for one in page["items"]}
        if page["next_cursor"] is None:
            return found
        wanted["cursor"] = page["next_cursor"]


def _shown(summary: dict[str, Any]) -> Shown:
    return summary["mailbox_ids"][0], _sorted(summary["keywords"]), summary["subject"]


def _sorted(keywords: list[str]) -> tuple[str, ...]:
    return tuple(sorted(keywords))
