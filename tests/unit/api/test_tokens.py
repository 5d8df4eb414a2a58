from __future__ import annotations

from typing import Any

import pytest
from app.errors import NotAuthenticated
from app.services.access.callers import Scope

from tests.gateway import Gateway, files_holding, without_request_id


async def test_a_token_is_shown_once_and_kept_as_a_hash(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")

    made = await gateway.admin.post("/v1/tokens", json={"account_ids": [ann], "scopes": ["mail.read", "push"]})

    assert made.status_code == 201
    token = made.json()
    assert token["kind"] == "account"
    assert token["token"].startswith("pgs_")
    assert token["id"].startswith("tok_")
    seen = await gateway.admin.get(f"/v1/tokens/{token['id']}")
    assert "token" not in seen.json()
    assert seen.json()["scopes"] == ["mail.read", "push"]
    assert not files_holding(gateway.folder, token["token"].encode())


async def test_a_revoked_token_opens_nothing_more(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    token = (await gateway.admin.post("/v1/tokens", json={"account_ids": [ann], "scopes": ["mail.read"]})).json()
    client = gateway.client(token["token"])
    assert (await client.get("/v1/me")).status_code == 200

    assert (await gateway.admin.delete(f"/v1/tokens/{token['id']}")).status_code == 204

    refused = await client.get("/v1/me")
    assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await gateway.admin.get(f"/v1/tokens/{token['id']}")).json()["code"] == "token_not_found"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "token_missing"),
        ("", "token_missing"),
        ("Basic cGdzOng=", "token_missing"),
        ("Bearer", "token_malformed"),
        ("Bearer ", "token_malformed"),
        ("Bearer pgs_x", "token_malformed"),
        ("Bearer \xff", "token_malformed"),
        ("Bearer " + "x" * 9000, "token_malformed"),
        ("Bearer pgs_" + "x" * 43, "token_revoked"),
    ],
)
async def test_no_token_or_a_wrong_one_is_401(gateway: Gateway, authorization: str | None, code: str) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]

    refused = await gateway.client(None).get("/v1/accounts", headers=headers)

    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == code


@pytest.mark.parametrize(
    ("order", "pointer"),
    [
        ({"scopes": ["mail.read"]}, "/account_ids"),
        ({"scopes": ["admin"], "account_ids": ["ANN"]}, "/scopes"),
        ({"scopes": [], "account_ids": ["ANN"]}, "/scopes"),
        ({"scopes": ["mail.fly"], "account_ids": ["ANN"]}, "/scopes/0"),
        ({"scopes": ["mail.read"], "account_ids": ["ANN", "acc_unknown"]}, "/account_ids/1"),
        ({"scopes": ["mail.read"], "account_ids": ["ANN"], "expires_in_seconds": 86401}, "/expires_in_seconds"),
        ({"scopes": ["mail.read"], "account_ids": ["ANN"], "expires_in_seconds": "60"}, "/expires_in_seconds"),
        ({"scopes": ["mail.read"], "account_ids": ["ANN"], "origins": ["https://a.test/x"]}, "/origins/0"),
        ({"scopes": ["mail.read"], "kind": "server", "networks": ["10.0.0.0/33"]}, "/networks/0"),
        ({"scopes": ["mail.read"], "kind": "refresh", "account_ids": ["ANN"]}, "/kind"),
        ({"scopes": ["mail.read"], "account_ids": ["ANN"], "extra": 1}, "/extra"),
    ],
)
async def test_a_wrong_order_is_answered_with_a_pointer_to_the_fault(
    gateway: Gateway, order: dict[str, Any], pointer: str
) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    if "account_ids" in order:
        order = {**order, "account_ids": [ann if one == "ANN" else one for one in order["account_ids"]]}

    refused = await gateway.admin.post("/v1/tokens", json=order)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer


async def test_a_key_limited_to_accounts_gives_and_sees_no_others(gateway: Gateway) -> None:
    ann, bob = [await gateway.harness.add_account(f"{name}@demo.test") for name in ("ann", "bob")]
    order = {"kind": "server", "scopes": [Scope.ADMIN], "account_ids": [ann]}
    limited = gateway.client((await gateway.admin.post("/v1/tokens", json=order)).json()["token"])
    other = (await gateway.admin.post("/v1/tokens", json={"account_ids": [bob], "scopes": ["mail.read"]})).json()

    refused = [
        await limited.post("/v1/tokens", json={"account_ids": [bob], "scopes": ["mail.read"]}),
        await limited.post("/v1/tokens", json={"kind": "server", "scopes": ["mail.read"]}),
    ]

    assert [one.status_code for one in refused] == [422, 422]
    assert (await limited.get(f"/v1/tokens/{other['id']}")).status_code == 404
    assert (await limited.delete(f"/v1/tokens/{other['id']}")).status_code == 404
    listed = (await limited.get("/v1/tokens")).json()["items"]
    assert all(set(one["account_ids"]) <= {ann} for one in listed)


async def test_a_token_works_from_its_networks_alone(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    inside = await gateway.token(ann, networks=("127.0.0.0/8",))  # where the test client says it is
    outside = await gateway.token(ann, networks=("10.0.0.0/8", "fd00::/8"))

    assert (await gateway.client(inside).get("/v1/me")).status_code == 200
    assert (await gateway.client(outside).get("/v1/me")).status_code == 401


async def test_a_scope_that_is_missing_is_403_before_anything_is_looked_up(gateway: Gateway) -> None:
    ann, bob = [await gateway.harness.add_account(f"{name}@demo.test") for name in ("ann", "bob")]
    client = gateway.client(await gateway.token(ann, scopes=[Scope.PUSH]))

    answers = [await client.get(f"/v1/accounts/{id_}/mailboxes") for id_ in (ann, bob, "acc_unknown")]

    assert {one.status_code for one in answers} == {403}
    assert len({without_request_id(answer) for answer in answers}) == 1


async def test_a_ticket_stands_for_its_token_once(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    client = gateway.client(await gateway.token(ann, scopes=[Scope.PUSH]))

    made = await client.post("/v1/stream/tickets", json={})

    assert made.status_code == 201
    assert made.json()["expires_in"] == 30
    ticket = made.json()["ticket"]
    caller = await gateway.services.tickets.redeem(ticket, "127.0.0.1")
    assert caller.account_ids == frozenset[str]({ann})
    with pytest.raises(Exception, match="ticket is not valid"):
        await gateway.services.tickets.redeem(ticket, "127.0.0.1")


async def test_a_repeated_order_of_a_ticket_gives_the_same_one_which_is_kept_encrypted(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "k1"}

    first, again = [await gateway.admin.post("/v1/stream/tickets", json={}, headers=headers) for _ in range(2)]

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert not files_holding(gateway.folder, first.json()["ticket"].encode())
    await gateway.services.tickets.redeem(first.json()["ticket"], "127.0.0.1")
    with pytest.raises(NotAuthenticated):
        await gateway.services.tickets.redeem(again.json()["ticket"], "127.0.0.1")


async def test_a_repeated_order_gives_the_same_secret_which_is_kept_encrypted(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    order = {"account_ids": [ann], "scopes": ["mail.read"]}

    first = await gateway.admin.post("/v1/tokens", json=order, headers={"Idempotency-Key": "k1"})
    again = await gateway.admin.post("/v1/tokens", json=order, headers={"Idempotency-Key": '"k1"'})

    assert first.json() == again.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert len((await gateway.admin.get("/v1/tokens")).json()["items"]) == 2
    assert not files_holding(gateway.folder, first.json()["token"].encode())


async def test_requests_of_a_token_are_counted_and_limited(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    gateway.services.settings = gateway.services.settings.model_copy(update={"requests_per_minute": 2})
    client = gateway.client(await gateway.token(ann))

    answers = [await client.get("/v1/me") for _ in range(3)]

    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"token";q=2;w=60, "account";q=2;w=60'
    assert answers[0].headers["RateLimit"].startswith('"token";r=1;t=')
    assert int(answers[2].headers["Retry-After"]) <= 60
    assert "RateLimit" not in (await gateway.admin.get("/v1/accounts")).headers
