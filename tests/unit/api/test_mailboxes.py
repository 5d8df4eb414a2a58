from __future__ import annotations

from typing import Any

import pytest
from app.mail.types import AccountId
from app.services.access.callers import Scope

from tests.gateway import Gateway, without_request_id

BOTH = [Scope.MAIL_READ, Scope.MAILBOXES]


async def _ann(gateway: Gateway) -> AccountId:
    return await gateway.harness.add_account("ann@demo.test")


async def test_mailboxes_are_listed_with_the_state_before_they_were_read(gateway: Gateway) -> None:
    ann = await _ann(gateway)
    client = gateway.client(await gateway.token(ann))

    listed = await client.get("/v1/me/mailboxes")

    body = listed.json()
    assert body["items"][0]["path"] == "Archive"
    assert listed.headers["ETag"] == f'"{body["state"]}"'
    assert body["sync"]["mode"] == "embedded"
    unchanged = await client.get("/v1/me/mailboxes", headers={"If-None-Match": listed.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_a_change_makes_a_new_state(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))
    before = (await client.get("/v1/me/mailboxes")).headers["ETag"]

    await client.post("/v1/me/mailboxes", json={"name": "Work"})

    after = await client.get("/v1/me/mailboxes", headers={"If-None-Match": before})
    assert after.status_code == 200
    assert after.headers["ETag"] != before


async def test_a_mailbox_is_made_renamed_moved_and_removed(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))

    work = (await client.post("/v1/me/mailboxes", json={"name": "Work"})).json()
    made = await client.post("/v1/me/mailboxes", json={"name": "Projects", "parent_id": work["id"]})
    projects = made.json()
    assert made.status_code == 201
    assert made.headers["Location"].endswith(projects["id"])
    assert (projects["path"], projects["name"], projects["parent_id"]) == ("Work/Projects", "Projects", work["id"])

    path = f"/v1/me/mailboxes/{projects['id']}"
    renamed = (await client.patch(path, json={"name": "Plans"})).json()
    assert (renamed["path"], renamed["id"]) == ("Work/Plans", projects["id"])
    assert (await client.patch(path, json={"parent_id": None})).json()["path"] == "Plans"
    assert (await client.patch(path, json={"is_subscribed": False})).json()["is_subscribed"] is False

    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).json()["code"] == "mailbox_not_found"


async def test_a_role_belongs_to_one_mailbox(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))
    mailboxes = (await client.get("/v1/me/mailboxes")).json()["items"]
    archive = next(one for one in mailboxes if one["role"] == "archive")
    other = (await client.post("/v1/me/mailboxes", json={"name": "Old"})).json()

    changed = await client.patch(f"/v1/me/mailboxes/{other['id']}", json={"role": "archive"})

    assert changed.json()["role"] == "archive"
    assert (await client.get(f"/v1/me/mailboxes/{archive['id']}")).json()["role"] is None
    cleared = await client.patch(f"/v1/me/mailboxes/{other['id']}", json={"role": None})
    assert cleared.json()["role"] is None


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": " x"}, "/name"),
        ({"name": "a/b"}, "/name"),
        ({"name": "a\r\nb"}, "/name"),
        ({"name": "a\u0000"}, "/name"),
        ({"name": 5}, "/name"),
        ({"name": "x", "parent_id": "mbx_unknown"}, "/parent_id"),
        ({"name": "x", "role": "boss"}, "/role"),
        ({"name": "x", "colour": "red"}, "/colour"),
    ],
)
async def test_a_wrong_order_is_answered_with_a_pointer(gateway: Gateway, order: dict[str, Any], pointer: str) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))

    refused = await client.post("/v1/me/mailboxes", json=order)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer


async def test_what_may_not_be_is_a_conflict(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))
    inbox = next(one for one in (await client.get("/v1/me/mailboxes")).json()["items"] if one["role"] == "inbox")

    refused = [
        await client.post("/v1/me/mailboxes", json={"name": "Sent"}),
        await client.delete(f"/v1/me/mailboxes/{inbox['id']}"),
        await client.patch(f"/v1/me/mailboxes/{inbox['id']}", json={"name": "In"}),
    ]

    assert [one.status_code for one in refused] == [409, 409, 409]


async def test_a_token_limited_to_mailboxes_sees_no_others(gateway: Gateway) -> None:
    ann = await _ann(gateway)
    inbox, sent = await gateway.harness.mailbox(ann), await gateway.harness.mailbox(ann, "Sent")
    client = gateway.client(await gateway.token(ann, scopes=BOTH, mailbox_ids=(inbox.id,)))

    assert [one["id"] for one in (await client.get("/v1/me/mailboxes")).json()["items"]] == [inbox.id]
    hidden, unknown = [await client.get(f"/v1/me/mailboxes/{id_}") for id_ in (sent.id, "mbx_unknown")]
    assert hidden.status_code == 404
    assert without_request_id(hidden) == without_request_id(unknown)
    assert (await client.delete(f"/v1/me/mailboxes/{sent.id}")).status_code == 404
    assert (await client.post("/v1/me/mailboxes", json={"name": "x"})).status_code == 403


async def test_a_mailbox_is_created_once_under_an_idempotency_key(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))
    headers = {"Idempotency-Key": "one"}

    first = await client.post("/v1/me/mailboxes", json={"name": "Work"}, headers=headers)
    again = await client.post("/v1/me/mailboxes", json={"name": "Work"}, headers=headers)
    other = await client.post("/v1/me/mailboxes", json={"name": "Home"}, headers=headers)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_refused_request_leaves_its_key_free(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))
    headers = {"Idempotency-Key": "one"}
    assert (await client.post("/v1/me/mailboxes", json={"name": "Sent"}, headers=headers)).status_code == 409

    made = await client.post("/v1/me/mailboxes", json={"name": "Work"}, headers=headers)

    assert made.status_code == 201


@pytest.mark.parametrize("key", ["", '""', "a b", "ä".encode().decode("latin-1"), "x" * 256])
async def test_an_idempotency_key_is_visible_ascii(gateway: Gateway, key: str) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))

    refused = await client.post(
        "/v1/me/mailboxes", json={"name": "Work"}, headers=[(b"Idempotency-Key", key.encode("latin-1"))]
    )

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["parameter"] == "Idempotency-Key"


async def test_every_answer_about_a_mailbox_tells_the_state(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))

    made = await client.post("/v1/me/mailboxes", json={"name": "Work"})
    path = f"/v1/me/mailboxes/{made.json()['id']}"
    answers = [made, await client.get(path), await client.patch(path, json={"name": "Play"}), await client.delete(path)]

    states = [answer.headers["Postgate-State"] for answer in answers]
    assert states[0] == states[1]
    assert len(set(states)) == 3
    assert (await client.get("/v1/me/mailboxes")).json()["state"] == states[-1]


async def test_a_mailbox_cannot_go_below_itself(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await _ann(gateway), scopes=BOTH))
    work = (await client.post("/v1/me/mailboxes", json={"name": "Work"})).json()
    plans = (await client.post("/v1/me/mailboxes", json={"name": "Plans", "parent_id": work["id"]})).json()

    for parent in (work, plans):
        answer = await client.patch(f"/v1/me/mailboxes/{work['id']}", json={"parent_id": parent["id"]})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
