"""What belongs to another account looks like what does not exist, on every route."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from app.api.openapi import http_routes
from app.api.routes import ROUTERS
from app.mail.delta import Location
from app.mail.types import AccountId, Mailbox, Position
from app.services.access.callers import ACCOUNT_SCOPES
from fastapi.routing import APIRoute

from tests.gateway import Gateway, without_request_id

MAIL = b"From: Ann <ann@demo.test>\r\nTo: Bob <bob@demo.test>\r\nSubject: Hello\r\n\r\nHello\r\n"
BELOW_ACCOUNT = "/v1/accounts/{account_id}"
ROUTES = [
    (method, route)
    for route in http_routes(ROUTERS)
    if route.path.startswith(BELOW_ACCOUNT)
    for method in sorted(route.methods or ())
]
BODIES: dict[str, Any] = {
    "updateAccount": {"name": "x"},
    "createMailbox": {"name": "x"},
    "updateMailbox": {"is_subscribed": True},
    "moveMessages": {"message_ids": ["MESSAGE"], "mailbox_id": "MAILBOX"},
    "copyMessages": {"message_ids": ["MESSAGE"], "mailbox_id": "MAILBOX"},
    "batchMessages": {"message_ids": ["MESSAGE"], "keywords": {"add": ["$seen"], "remove": []}},
    "batchGetMessages": {"message_ids": ["MESSAGE"]},
    "searchMessages": {},
    "updateThread": {"keywords": {"add": ["$seen"], "remove": []}},
    "updateMessage": {"keywords": {"add": ["$seen"], "remove": []}},
    "importMessage": {"subject": "x"},
    "createLink": {"raw": True},
    "sendMessage": {"to": [{"address": "bob@demo.test"}], "text": "x"},
    "rescheduleSubmission": {"send_at": datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()},
}
QUERIES = {"listChanges": {"since": "STATE"}, "importMessage": {"mailbox_id": "MAILBOX"}}


def _name(case: tuple[str, APIRoute]) -> str:
    return f"{case[0]} {case[1].path}"


def _filled(value: Any, known: dict[str, str]) -> Any:
    if isinstance(value, str):
        return known.get(value, value)
    if isinstance(value, list):
        return [_filled(one, known) for one in value]
    return {key: _filled(one, known) for key, one in value.items()} if isinstance(value, dict) else value


async def _account(gateway: Gateway, name: str) -> tuple[AccountId, Mailbox, str]:
    """An account with a message; its id, INBOX and the message's id."""
    account_id = await gateway.harness.add_account(f"{name}@demo.test")
    inbox = await gateway.harness.mailbox(account_id)
    content = await gateway.harness.store.keep(MAIL)
    applied = await gateway.harness.store.add(account_id, inbox.id, [(content, frozenset(), None)])
    message = await gateway.harness.reader.messages.at(
        account_id, Location(inbox.id, next(iter(applied.message_ids)).uid)
    )
    return account_id, inbox, message.id


async def _call(gateway: Gateway, token: str, method: str, route: APIRoute, known: dict[str, str]) -> tuple[int, str]:
    path = re.sub(r"\{(\w+)(:\w+)?\}", lambda match: known[match[1]], route.path)
    name = route.operation_id or ""
    answer = await gateway.client(token).request(
        method, path, json=_filled(BODIES.get(name), known), params=_filled(QUERIES.get(name, {}), known)
    )
    return answer.status_code, without_request_id(answer)


@pytest.mark.parametrize("case", ROUTES, ids=_name)
async def test_another_account_looks_like_none(gateway: Gateway, case: tuple[str, APIRoute]) -> None:
    method, route = case
    ann, _, _ = await _account(gateway, "ann")
    bob, inbox, message_id = await _account(gateway, "bob")
    token = await gateway.token(ann, scopes=sorted(ACCOUNT_SCOPES))
    state = gateway.services.states.issue(bob, Position(1, 0))
    own = {"mailbox_id": inbox.id, "message_id": message_id, "MAILBOX": inbox.id, "MESSAGE": message_id}
    thread_id = (await gateway.harness.reader.messages.message(bob, message_id)).thread_id
    known = {"part": "1", "attachment_id": "att_x", "submission_id": "sub_x", "thread_id": thread_id, "STATE": state}
    known |= own

    foreign = await _call(gateway, token, method, route, {**known, "account_id": bob})
    unknown = await _call(gateway, token, method, route, {**known, "account_id": "acc_unknown"})

    assert foreign == unknown
    assert foreign[0] in ((403, 404) if route.operation_id == "deleteAccount" else (404,))


OWN_ROUTES = [case for case in ROUTES if re.search(r"\{(mailbox_id|message_id|submission_id|thread_id)", case[1].path)]


@pytest.mark.parametrize("case", OWN_ROUTES, ids=_name)
async def test_another_account_s_ids_look_unknown_below_one_s_own(gateway: Gateway, case: tuple[str, APIRoute]) -> None:
    method, route = case
    ann, own_inbox, _ = await _account(gateway, "ann")
    bob, inbox, message_id = await _account(gateway, "bob")
    token = await gateway.token(ann, scopes=sorted(ACCOUNT_SCOPES))
    bobs = await gateway.token(bob, scopes=sorted(ACCOUNT_SCOPES))
    known = {"account_id": ann, "part": "1", "attachment_id": "att_x", "MAILBOX": own_inbox.id}
    sent = await gateway.client(bobs).post("/v1/me/send", json={**BODIES["sendMessage"], "undo_seconds": 60})
    thread_id = (await gateway.harness.reader.messages.message(bob, message_id)).thread_id
    theirs = {**known, "mailbox_id": inbox.id, "message_id": message_id, "submission_id": sent.json()["id"]}
    nobodys = {**known, "mailbox_id": "mbx_x", "message_id": "msg_x", "submission_id": "sub_x"}
    theirs["thread_id"], nobodys["thread_id"] = thread_id, "thr_x"

    if method in ("GET", "HEAD"):  # caches warm with the owner's answer
        await _call(gateway, bobs, method, route, {**theirs, "account_id": bob})
    foreign = await _call(gateway, token, method, route, theirs)
    unknown = await _call(gateway, token, method, route, nobodys)

    assert foreign == unknown
    assert foreign[0] == 404


async def test_bulk_calls_and_searches_reach_nothing_of_another_account(gateway: Gateway) -> None:
    ann, own_inbox, own_id = await _account(gateway, "ann")
    bob, inbox, message_id = await _account(gateway, "bob")
    client = gateway.client(await gateway.token(ann, scopes=sorted(ACCOUNT_SCOPES)))

    got = (await client.post("/v1/me/messages/batch-get", json={"message_ids": [own_id, message_id]})).text
    flagged = {"message_ids": [message_id], "keywords": {"add": ["$flagged"], "remove": []}}
    batch = (await client.post("/v1/me/messages/batch", json=flagged)).json()
    found = (await client.post("/v1/me/messages/search", json={"filter": {"mailbox_id": inbox.id}})).text
    moved = (
        await client.post("/v1/me/messages/move", json={"message_ids": [own_id], "mailbox_id": inbox.id})
    ).status_code
    taken = {"message_ids": [message_id], "mailbox_id": own_inbox.id}
    stolen = (await client.post("/v1/me/messages/copy", json=taken)).json()

    assert bob not in got + found
    assert [one["status"] for one in batch["results"]] == [404]
    assert moved in (404, 422)
    assert [one["status"] for one in stolen["results"]] == [404]
    assert (await gateway.harness.reader.messages.message(bob, message_id)).flags == frozenset()


async def test_states_and_cursors_work_for_their_account_alone(gateway: Gateway) -> None:
    ann, _, _ = await _account(gateway, "ann")
    bob, _, _ = await _account(gateway, "bob")
    client = gateway.client(await gateway.token(ann, scopes=sorted(ACCOUNT_SCOPES)))
    state = gateway.services.states.issue(bob, Position(1, 0))
    cursor = gateway.services.states.seal_cursor("messages", bob, [1, 1, "msg_x"])

    for path, query in (("changes", {"since": state}), ("events", {"after": state}), ("messages", {"cursor": cursor})):
        refused = await client.get(f"/v1/me/{path}", params=query)
        assert refused.status_code == 422
