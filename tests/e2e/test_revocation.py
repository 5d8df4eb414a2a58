"""A revocation, a changed password and the end of a token reach every open session at once."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.servers.postgate import Postgate

WAIT_SECONDS = 10.0
"""Less than the ping of a stream (25 s), the comment of an event stream (15 s) and the periodic check (20 s)."""
NEW = "a new password"


@pytest.fixture
def server(shared_postgate: Postgate) -> Postgate:
    return shared_postgate


def sign_in(server: Postgate, name: str = "alice", password: str | None = None) -> dict[str, Any]:
    user = server.user(name)
    order = {"email": user["email"], "password": password or user["password"]}
    answer = httpx2.post(f"{server.base_url}/v1/session", json=order)
    assert answer.status_code == 201
    pair: dict[str, Any] = answer.json()
    return pair


def token(server: Postgate, scopes: tuple[str, ...] = ("mail.read", "push"), **limits: Any) -> dict[str, Any]:
    order = {"account_ids": [server.user()["account_id"]], "scopes": list(scopes), **limits}
    with server.client() as admin:
        made: dict[str, Any] = admin.post("/v1/tokens", json=order).json()
    return made


def revoke(server: Postgate, id_: str) -> None:
    with server.client() as admin:
        assert admin.delete(f"/v1/tokens/{id_}").status_code == 204


def until_closed(socket: ClientConnection) -> list[dict[str, Any]]:
    """The frames that still come; the close code is asked of the socket."""
    frames = []
    try:
        while True:
            frames.append(json.loads(socket.recv(WAIT_SECONDS)))
    except ConnectionClosed:
        return frames


class EventStream:
    """An open event stream, read in a thread of its own."""

    def __init__(self, server: Postgate, secret: str) -> None:
        self.text = ""
        self.has_begun, self.has_ended = threading.Event(), threading.Event()
        self._server, self._secret = server, secret
        threading.Thread(target=self._read, daemon=True).start()
        assert self.has_begun.wait(WAIT_SECONDS)

    def _read(self) -> None:
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {self._secret}"}
        url = f"{self._server.base_url}/v1/me/events"
        with httpx2.stream("GET", url, headers=headers, timeout=60) as answer:
            for piece in answer.iter_text():
                self.text += piece
                self.has_begun.set()
        self.has_ended.set()


class LongPoll:
    """A long poll under way, in a thread of its own."""

    def __init__(self, server: Postgate, secret: str) -> None:
        self._client = server.client(secret)
        state = self._client.get("/v1/me/messages", params={"limit": 1}).json()["state"]
        self._state, self._answers = state, list[httpx2.Response]()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        time.sleep(0.3)  # until it waits; without that the answer is the same, sooner

    def _poll(self) -> None:
        query = {"after": self._state, "wait": 60}
        self._answers.append(self._client.get("/v1/me/events", params=query, timeout=70))

    def answer(self) -> httpx2.Response:
        self._thread.join(WAIT_SECONDS)
        assert self._answers
        return self._answers[0]


def test_a_revoked_token_ends_its_socket_event_stream_and_long_poll_at_once(server: Postgate) -> None:
    made = token(server)
    stream, poll = EventStream(server, made["token"]), LongPoll(server, made["token"])
    with server.stream(made["token"]) as socket:
        socket.send(json.dumps({"type": "subscribe", "sub_id": "s", "accounts": "*"}))
        assert json.loads(socket.recv(WAIT_SECONDS))["type"] == "subscribed"

        revoke(server, made["id"])

        frames = until_closed(socket)
        assert frames[-1]["type"] == "bye"
        assert socket.protocol.close_code == 4401
    assert stream.has_ended.wait(WAIT_SECONDS)
    assert "event: error" in stream.text
    assert '"token_revoked"' in stream.text
    assert (poll.answer().status_code, poll.answer().json()["code"]) == (401, "token_revoked")


def test_an_expired_token_ends_its_socket_event_stream_and_long_poll(server: Postgate) -> None:
    made = token(server, expires_in_seconds=3)
    stream, poll = EventStream(server, made["token"]), LongPoll(server, made["token"])
    with server.stream(made["token"]) as socket:
        until_closed(socket)
        assert socket.protocol.close_code == 4401
    assert stream.has_ended.wait(WAIT_SECONDS)
    assert '"token_expired"' in stream.text
    assert poll.answer().json()["code"] == "token_expired"


def test_signing_out_ends_the_sockets_of_the_sign_in_and_no_others(server: Postgate) -> None:
    mine, other = sign_in(server), sign_in(server)
    with server.stream(mine["access_token"]) as ending, server.stream(other["access_token"]) as staying:
        with server.client(mine["access_token"]) as client:
            assert client.delete("/v1/session").status_code == 204
        until_closed(ending)
        assert ending.protocol.close_code == 4401
        staying.send(json.dumps({"type": "ping", "id": "1"}))
        assert json.loads(staying.recv(WAIT_SECONDS)) == {"type": "pong", "id": "1"}


class Line:
    """A mail client at a server, line by line."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self._file = self._socket.makefile("rb")
        self.line()

    def line(self) -> bytes:
        return self._file.readline()

    def say(self, text: str, until: bytes) -> None:
        self._socket.sendall(text.encode() + b"\r\n")
        while not (line := self.line()).startswith(until):
            assert line, f"closed before {until!r}"

    def rest(self) -> bytes:
        """What the server says unasked, until it closes."""
        return self._file.read()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    opened: list[Line] = []
    yield opened
    for line in opened:
        line.close()


def test_a_changed_password_ends_sockets_and_imap_pop3_and_smtp_sessions_at_once(
    postgate: Postgate, lines: list[Line]
) -> None:
    mine, other = sign_in(postgate), sign_in(postgate)
    email, password = postgate.user()["email"], postgate.user()["password"]
    idle, busy, pop3, smtp, bob = (
        Line(postgate.ports[name]) for name in ("imap", "imap", "pop3", "submission", "imap")
    )
    lines += [idle, busy, pop3, smtp, bob]
    for imap in (idle, busy):
        imap.say(f'a LOGIN {email} "{password}"', b"a OK")
    idle.say("b SELECT INBOX", b"b OK")
    idle.say("c IDLE", b"+")
    bob.say(f'a LOGIN {postgate.user("bob")["email"]} "{postgate.user("bob")["password"]}"', b"a OK")
    pop3.say(f"USER {email}", b"+OK")
    pop3.say(f"PASS {password}", b"+OK")
    smtp.say("EHLO client.example", b"250 ")
    smtp.say("AUTH LOGIN", b"334")
    for secret in (email, password):
        smtp.say(base64.b64encode(secret.encode()).decode(), b"")
    with postgate.stream(other["access_token"]) as socket:
        with postgate.client(mine["access_token"]) as client:
            order = {"old_password": password, "new_password": NEW}
            assert client.post("/v1/me/password", json=order).status_code == 200
        until_closed(socket)
        assert socket.protocol.close_code == 4401
    assert idle.rest().startswith(b"* BYE ")
    assert busy.rest().startswith(b"* BYE ")
    assert pop3.rest().startswith(b"-ERR ")
    assert smtp.rest().startswith(b"421 ")
    bob.say("b NOOP", b"b OK")
    sign_in(postgate, password=NEW)


def test_a_narrower_token_on_the_same_socket_narrows_what_is_seen(server: Postgate) -> None:
    wide = token(server)
    with server.client() as admin:
        mailboxes = admin.get(f"{server.account_path()}/mailboxes").json()["items"]
    archive = next(one["id"] for one in mailboxes if one["role"] == "archive")
    narrow = token(server, mailbox_ids=[archive])
    ids_only = token(server, ("push",))
    with server.stream(wide["token"]) as socket:
        for frame in (
            {"type": "subscribe", "sub_id": "s", "accounts": "*", "types": ["message.*"]},
            {"type": "auth", "token": narrow["token"]},
            {"type": "ping", "id": "1"},
        ):
            socket.send(json.dumps(frame))
        while json.loads(socket.recv(WAIT_SECONDS)).get("id") != "1":
            pass
        server.deliver(b"Subject: Hidden from here\r\n\r\nText\r\n")
        socket.send(json.dumps({"type": "auth", "token": ids_only["token"]}))
        socket.send(json.dumps({"type": "ping", "id": "2"}))
        frames = []
        while (frame := json.loads(socket.recv(WAIT_SECONDS))).get("id") != "2":
            frames.append(frame)
        server.deliver(b"Subject: Seen by its id\r\n\r\nText\r\n")
        event = json.loads(socket.recv(WAIT_SECONDS))
        while event["type"] != "event":
            frames.append(event)
            event = json.loads(socket.recv(WAIT_SECONDS))

    assert "Hidden from here" not in str(frames)
    assert set(event["event"]["data"]) == {"account_id", "mailbox_id", "message"}
    assert set(event["event"]["data"]["message"]) == {"id", "view"}
