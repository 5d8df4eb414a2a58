"""Counts for badges on a running gateway, and the clients in docs/events.md that read them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgate import Postgate

DOCUMENT = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
MAIL = b"From: a@example.com\r\nSubject: Plans\r\n\r\nText\r\n"
SECONDS = 60


@pytest.fixture
def token(shared_postgate: Postgate) -> str:
    order = {
        "account_ids": [shared_postgate.user()["account_id"]],
        "scopes": ["mail.read", "mail.modify", "push"],
    }
    with shared_postgate.client() as client:
        return str(client.post("/v1/tokens", json=order).json()["token"])


def _inbox(server: Postgate) -> dict[str, Any]:
    """Unread and total messages as the list of mailboxes has them."""
    with server.client() as client:
        mailbox = client.get(f"{server.account_path()}/mailboxes/inbox").json()
    return {"mailbox_id": mailbox["id"], "unread": mailbox["unread"], "total": mailbox["total"]}


def _code(language: str) -> str:
    [code] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(code)


def _counts(frames: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return next(frame["mailboxes"] for frame in frames if frame["type"] == "counts")


def test_a_socket_is_sent_counts_on_subscribe_on_resume_and_after_a_change(
    shared_postgate: Postgate, token: str
) -> None:
    subscribe = json.dumps({"type": "subscribe", "sub_id": "s", "accounts": "*", "mailboxes": ["inbox"]})
    for _ in range(2):
        with shared_postgate.stream(token) as socket:
            frames = (json.loads(socket.recv(SECONDS)) for _ in range(20))
            socket.send(subscribe)
            assert _counts(frames) == [_inbox(shared_postgate)]
            shared_postgate.deliver(MAIL)
            assert _counts(frames) == [_inbox(shared_postgate)]


def test_an_event_stream_is_sent_counts_without_an_id(shared_postgate: Postgate, token: str) -> None:
    headers = {"Accept": "text/event-stream"}
    with shared_postgate.client(token) as client, client.stream("GET", "/v1/me/events", headers=headers) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(("id:", "event:"))) == "event: counts"
        counts = json.loads(next(lines).removeprefix("data: "))

    assert _inbox(shared_postgate) in counts["mailboxes"]


def test_the_javascript_client_of_the_document_follows_and_knows_its_own_changes(
    shared_postgate: Postgate, token: str
) -> None:
    shared_postgate.deliver(MAIL)
    with shared_postgate.client() as client:
        query = {"mailbox_id": "inbox", "limit": "1"}
        [message] = client.get(f"{shared_postgate.account_path()}/messages", params=query).json()["items"]
    url = shared_postgate.base_url.replace("http", "ws", 1)
    change = json.dumps({"keywords": {"add": ["$flagged"]}})
    script = (
        _code("js").replace("wss://mail.example.com", url)
        + f"""
    const call = follow({json.dumps(token)}, (event, isOwn) => {{
      console.log(event.type, isOwn);
      process.exit();
    }}, (counts) => {{
      console.log(counts.length);
      call("1", "PATCH", "/v1/me/messages/{message["id"]}", {change});
    }});
    """
    )
    command = ["node", "--no-warnings", "--experimental-websocket", "--input-type=module", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)

    assert done.stdout.split("\n")[:2] == ["1", "message.updated true"], done.stderr


def test_the_python_client_of_the_document_follows(
    shared_postgate: Postgate, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    exec(_code("python"), names)
    with shared_postgate.client() as client:
        cursor = client.get(f"{shared_postgate.account_path()}/messages", params={"limit": 1}).json()["state"]
    shared_postgate.deliver(MAIL)

    events = names["follow"](shared_postgate.base_url.replace("http", "ws", 1) + "/v1/stream", token, cursor)

    assert next(events)["type"] == "message.created"
    shared_postgate.deliver(MAIL)
    assert next(events)["type"] == "message.created"
    assert _inbox(shared_postgate)["mailbox_id"] in capsys.readouterr().out
