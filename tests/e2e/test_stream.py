"""The stream as an app sees it: resumable, without gaps, closed to strangers."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.servers.postgate import Postgate

CHANGES = 2_000
CUTS = 200
State = dict[str, tuple[str, tuple[str, ...]]]


def message(number: int) -> bytes:
    return f"From: a@example.com\r\nTo: alice@demo.test\r\nSubject: Number {number}\r\n\r\nText {number}\r\n".encode()


def read_all(server: Postgate) -> tuple[State, str]:
    """Every message by REST, and the state that was true before the first page."""
    with server.client() as client:
        path = f"{server.account_path()}/messages"
        state: State = {}
        cursor, first = None, ""
        while True:
            query = {"limit": "500", "in": "anywhere"} | ({"cursor": cursor} if cursor else {})
            page = client.get(path, params=query).json()
            first = first or page["state"]
            state |= {one["id"]: (one["mailbox_ids"][0], tuple(one["keywords"])) for one in page["items"]}
            cursor = page["next_cursor"]
            if cursor is None:
                return state, first


def apply(state: State, event: dict[str, Any]) -> None:
    data = event["data"]
    match event["type"]:
        case "message.created":
            state[event["subject"]] = (data["mailbox_id"], tuple(data["message"]["keywords"]))
        case "message.updated":
            state[event["subject"]] = (state[event["subject"]][0], tuple(data["keywords"]))
        case "message.moved":
            state[event["subject"]] = (data["to"][0], state[event["subject"]][1])
        case "message.deleted":
            del state[event["subject"]]


def change_at_random(server: Postgate, count: int) -> None:
    """Deliver, flag, move, copy and expunge as a mail program does."""
    chance = random.Random(3)
    connection = server.imap()
    connection.select("INBOX")
    for number in range(count):
        known = connection.response("EXISTS")[1]
        total = int(known[-1]) if known and known[-1] else 0
        connection.noop()
        one = str(chance.randint(1, max(1, total or 50)))
        match chance.randrange(8):
            case 0 | 1:
                connection.append("INBOX", "", "", message(number))
            case 2 | 3:
                connection.store(one, "+FLAGS", "(\\Flagged)")
            case 4:
                connection.store(one, "FLAGS", f"(\\Seen $label{number % 5})")
            case 5:
                connection.copy(one, "Archive")
            case 6:
                connection._simple_command("MOVE", one, "Trash")
            case 7:
                connection.store(one, "+FLAGS", "(\\Deleted)")
                connection.expunge()
    connection.logout()


async def open_stream(server: Postgate, after: str, types: list[str] | None = None) -> Socket:
    url = server.base_url.replace("http", "ws", 1) + "/v1/stream"
    socket = await connect(url, additional_headers={"Authorization": f"Bearer {server.key}"})
    account = server.user()["account_id"]
    subscribe = {"type": "subscribe", "sub_id": "s", "accounts": [account], "after": after}
    await socket.send(json.dumps(subscribe | ({"types": types} if types else {})))
    assert json.loads(await socket.recv())["type"] == "hello"
    assert json.loads(await socket.recv())["type"] == "subscribed"
    return socket


async def test_a_subscriber_cut_off_two_hundred_times_ends_with_the_state_of_a_fresh_read(postgate: Postgate) -> None:
    state, cursor = await asyncio.to_thread(read_all, postgate)
    worker = threading.Thread(target=change_at_random, args=(postgate, CHANGES))
    worker.start()
    chance = random.Random(5)
    numbers: list[int] = []
    cuts = 0
    is_over = False
    while not is_over:
        socket = await open_stream(postgate, cursor)
        frames_left = chance.randint(1, 2 * CHANGES // CUTS)
        while frames_left or cuts >= CUTS:
            try:
                frame = json.loads(await asyncio.wait_for(socket.recv(), 2))
            except TimeoutError:
                is_over = not worker.is_alive()
                break
            if frame["type"] == "counts":
                continue
            assert frame["type"] == "event", frame
            numbers.append(frame["seq"])
            apply(state, frame["event"])
            cursor = frame["cursor"]
            frames_left -= 1
        socket.transport.abort()
        cuts += 1
    worker.join()

    assert cuts >= CUTS
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert state == (await asyncio.to_thread(read_all, postgate))[0]


async def test_changes_since_a_state_give_what_a_fresh_read_gives(postgate: Postgate) -> None:
    state, since = await asyncio.to_thread(read_all, postgate)
    await asyncio.to_thread(change_at_random, postgate, 200)

    with postgate.client() as client:
        path = f"{postgate.account_path()}/changes"
        has_more = True
        while has_more:
            changes = client.get(path, params={"since": since, "view": "summary"}).json()
            for one in changes["created"]:
                state[one["id"]] = (one["mailbox_ids"][0], tuple(one["keywords"]))
            for one in changes["moved"]:
                state[one["id"]] = (one["to"][0], state[one["id"]][1])
            for one in changes["updated"]:
                state[one["id"]] = (state[one["id"]][0], tuple(one["keywords"]))
            for one in changes["removed"]:
                del state[one["id"]]
            since, has_more = changes["new_state"], changes["has_more"]

    assert state == (await asyncio.to_thread(read_all, postgate))[0]


async def test_a_named_consumer_resumes_after_what_it_acknowledged(postgate: Postgate) -> None:
    account = postgate.user()["account_id"]
    url = postgate.base_url.replace("http", "ws", 1) + "/v1/stream"
    headers = {"Authorization": f"Bearer {postgate.key}"}
    subscribe = {"type": "subscribe", "sub_id": "s", "accounts": [account], "consumer": "phone", "types": ["message.*"]}
    async with connect(url, additional_headers=headers) as socket:
        await socket.send(json.dumps(subscribe))
        await asyncio.to_thread(postgate.deliver, message(1))
        frames = [json.loads(await socket.recv()) for _ in range(3)]
        await socket.send(json.dumps({"type": "ack", "cursor": frames[-1]["cursor"]}))
        await socket.send(json.dumps({"type": "ping", "id": "1"}))
        assert json.loads(await socket.recv()) == {"type": "pong", "id": "1"}
    await asyncio.to_thread(postgate.deliver, message(2))
    async with connect(url, additional_headers=headers) as socket:
        await socket.send(json.dumps(subscribe))
        frames = [json.loads(await socket.recv()) for _ in range(3)]

    assert frames[-1]["event"]["data"]["message"]["subject"] == "Number 2"


async def test_server_sent_events_resume_at_last_event_id(shared_postgate: Postgate) -> None:
    def first_event(headers: dict[str, str]) -> tuple[str, dict[str, Any]]:
        headers = {"Accept": "text/event-stream", **headers}
        with (
            shared_postgate.client() as client,
            client.stream("GET", f"{shared_postgate.account_path()}/events", headers=headers) as answer,
        ):
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line.startswith((":", "event")):
                    continue
                if not line and "id" in fields:  # counts have none
                    return fields["id"], json.loads(fields["data"])
                name, _, value = line.partition(": ")
                fields[name] = value
        raise AssertionError("the stream ended")

    waiting = asyncio.create_task(asyncio.to_thread(first_event, {}))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(shared_postgate.deliver, message(10))
    cursor, event = await waiting
    await asyncio.to_thread(shared_postgate.deliver, message(11))
    _, resumed = await asyncio.to_thread(first_event, {"Last-Event-ID": cursor})

    assert event["data"]["message"]["subject"] == "Number 10"
    assert resumed["data"]["message"]["subject"] == "Number 11"


def test_a_long_poll_waits_for_the_first_event(shared_postgate: Postgate) -> None:
    with shared_postgate.client() as client:
        path = f"{shared_postgate.account_path()}/events"
        cursor = client.get(path, params={"limit": 500}).json()["cursor"]
        threading.Timer(0.5, shared_postgate.deliver, [message(20)]).start()
        answer = client.get(path, params={"after": cursor, "wait": 20}).json()

    assert [one["data"]["message"]["subject"] for one in answer["items"]] == ["Number 20"]


async def test_a_foreign_origin_is_refused_and_a_missing_one_is_not(shared_postgate: Postgate) -> None:
    url = shared_postgate.base_url.replace("http", "ws", 1) + "/v1/stream"
    headers = {"Authorization": f"Bearer {shared_postgate.key}"}
    with pytest.raises(InvalidStatus) as refusal:
        await connect(url, additional_headers=headers | {"Origin": "https://evil.example"})

    assert refusal.value.response.status_code == 403
    async with connect(url, additional_headers=headers) as socket:
        assert json.loads(await socket.recv())["type"] == "hello"


def ticket(client: httpx2.Client) -> str:
    return str(client.post("/v1/stream/tickets", json={}).json()["ticket"])


async def test_a_ticket_opens_one_stream_and_is_in_no_log(shared_postgate: Postgate) -> None:
    with shared_postgate.client() as client:
        secret = ticket(client)
    url = shared_postgate.base_url.replace("http", "ws", 1) + f"/v1/stream?ticket={secret}"
    async with connect(url) as socket:
        assert json.loads(await socket.recv())["type"] == "hello"

    assert await close_code(url) == 4401
    assert secret not in shared_postgate.log_tail


async def close_code(url: str, *frames: dict[str, Any], headers: dict[str, str] | None = None) -> int:
    """How the server ends a stream on which these frames are sent."""
    async with connect(url, additional_headers=headers) as socket:
        for frame in frames:
            await socket.send(json.dumps(frame))
        return await code_at_the_end(socket)


async def code_at_the_end(socket: Socket) -> int:
    """The close code, whatever comes before it."""
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(drained(socket), 10)
    assert closed.value.rcvd is not None
    return int(closed.value.rcvd.code)


async def drained(socket: Socket) -> None:
    while True:
        await socket.recv()


async def test_a_stranger_is_closed_within_the_deadline(shared_postgate: Postgate) -> None:
    url = shared_postgate.base_url.replace("http", "ws", 1) + "/v1/stream"
    began = time.monotonic()

    assert await close_code(url) == 4401
    assert time.monotonic() - began > 1
    assert await close_code(url, {"type": "auth", "token": "pgs_wrong"}) == 4401
    assert await close_code(url, {"type": "subscribe", "sub_id": "s", "accounts": "*"}) == 4401


async def test_an_auth_frame_with_a_narrow_token_opens_its_own_account_alone(shared_postgate: Postgate) -> None:
    alice, bob = shared_postgate.user("alice")["account_id"], shared_postgate.user("bob")["account_id"]
    order = {"account_ids": [alice], "scopes": ["mail.read", "push"]}
    with shared_postgate.client() as client:
        token = client.post("/v1/tokens", json=order).json()["token"]
    url = shared_postgate.base_url.replace("http", "ws", 1) + "/v1/stream"
    async with connect(url) as socket:
        await socket.send(json.dumps({"type": "auth", "token": token}))
        await socket.send(json.dumps({"type": "subscribe", "sub_id": "b", "accounts": [bob]}))
        await socket.send(json.dumps({"type": "subscribe", "sub_id": "a", "accounts": "*"}))
        _, authenticated, refusal, subscribed = [json.loads(await socket.recv()) for _ in range(4)]

    assert authenticated["type"] == "authenticated"
    assert (refusal["type"], refusal["problem"]["status"]) == ("error", 404)
    assert list(subscribed["cursor"]) == [alice]


async def test_a_subscription_to_a_mailbox_that_is_none_of_the_accounts_is_refused(shared_postgate: Postgate) -> None:
    with shared_postgate.client() as client:
        of_bob = client.get(f"{shared_postgate.account_path('bob')}/mailboxes").json()["items"][0]["id"]
    account_id = shared_postgate.user("alice")["account_id"]
    with shared_postgate.stream() as socket:
        problems = []
        for mailbox_id in (of_bob, "mbx_unknown"):
            frame = {"type": "subscribe", "sub_id": "a", "accounts": [account_id], "mailboxes": [mailbox_id]}
            socket.send(json.dumps(frame))
            problems.append(json.loads(socket.recv(10))["problem"])

    assert problems[0]["code"] == "mailbox_not_found"
    assert problems[0] == problems[1]


async def test_a_token_of_one_mailbox_follows_a_move_as_it_sees_it(shared_postgate: Postgate) -> None:
    path = shared_postgate.account_path()
    with shared_postgate.client() as client:
        roles = {one["role"]: one["id"] for one in client.get(f"{path}/mailboxes").json()["items"]}
        listed = client.get(f"{path}/messages", params={"mailbox_id": roles["inbox"], "limit": 1}).json()["items"]
        order = {"account_ids": [listed[0]["account_id"]], "scopes": ["push"], "mailbox_ids": [roles["archive"]]}
        token = client.post("/v1/tokens", json=order).json()["token"]
        with shared_postgate.stream(token) as socket:
            socket.send(json.dumps({"type": "subscribe", "sub_id": "a", "accounts": "*"}))
            socket.recv(10)
            for role in ("archive", "inbox"):
                client.patch(f"{path}/messages/{listed[0]['id']}", json={"mailbox_id": roles[role]})
                frame = json.loads(socket.recv(10))
                assert roles["inbox"] not in json.dumps(frame)
                assert frame["event"]["type"] == {"archive": "message.created", "inbox": "message.deleted"}[role]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"type":"none"}', '{"type":"subscribe"}', '{"type":"ping","x":1}', "9" * 5_000]
)
async def test_an_invalid_frame_is_an_error_and_the_stream_goes_on(shared_postgate: Postgate, text: str) -> None:
    url = shared_postgate.base_url.replace("http", "ws", 1) + "/v1/stream"
    async with connect(url, additional_headers={"Authorization": f"Bearer {shared_postgate.key}"}) as socket:
        await socket.recv()
        await socket.send(text)
        await socket.send('{"type": "ping", "id": "1"}')
        error, pong = [json.loads(await socket.recv()) for _ in range(2)]

    assert error["type"] == "error"
    assert error["problem"]["errors"]
    assert pong == {"type": "pong", "id": "1"}


async def test_a_rest_call_over_the_socket_answers_as_http_does(shared_postgate: Postgate) -> None:
    path = f"{shared_postgate.account_path()}/mailboxes"
    with shared_postgate.client() as client:
        by_http = client.get(path).json()
    with shared_postgate.stream() as socket:
        socket.send(json.dumps({"type": "request", "id": "1", "method": "GET", "path": path}))
        answer = json.loads(socket.recv(10))

    assert (answer["id"], answer["status"], answer["body"]["items"]) == ("1", 200, by_http["items"])


async def test_streams_are_told_goodbye_when_the_server_stops(postgate: Postgate) -> None:
    url = postgate.base_url.replace("http", "ws", 1) + "/v1/stream"
    async with connect(url, additional_headers={"Authorization": f"Bearer {postgate.key}"}) as socket:
        await socket.recv()
        stopping = asyncio.create_task(asyncio.to_thread(postgate.stop))
        bye = json.loads(await asyncio.wait_for(socket.recv(), 10))
        code = await code_at_the_end(socket)
        await stopping

    assert (bye["type"], bye["code"], code) == ("bye", 1001, 1001)
