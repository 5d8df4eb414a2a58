"""What an app keeps with accounts and submissions."""

from __future__ import annotations

from typing import Any

import pytest
from app.db import accounts
from app.services.access.callers import Scope

from tests.gateway import Gateway

KEPT = {"user": "u_7", "plan": 'gold "24"', "näme": "Ünï"}


async def _account(gateway: Gateway, email: str, metadata: Any = KEPT) -> Any:
    body = {"kind": "embedded", "email": email, "password": "long enough", "metadata": metadata}
    return await gateway.admin.post("/v1/accounts", json=body)


async def test_metadata_of_an_account_comes_back_and_filters_the_list(gateway: Gateway) -> None:
    first = (await _account(gateway, "ann@demo.test")).json()
    await _account(gateway, "bob@demo.test", {"user": "u_70", "User": "u_7"})
    await _account(gateway, "eve@demo.test", None)

    assert first["metadata"] == KEPT
    for query in ({"metadata[user]": "u_7"}, {"metadata[plan]": 'gold "24"', "metadata[näme]": "Ünï"}):
        found = (await gateway.admin.get("/v1/accounts", params=query)).json()["items"]
        assert [account["email"] for account in found] == ["ann@demo.test"], query
    nobody = await gateway.admin.get("/v1/accounts", params={"metadata[user]": "U_7"})
    assert nobody.json()["items"] == []


async def test_a_patch_sets_and_removes_single_keys(gateway: Gateway) -> None:
    path = f"/v1/accounts/{(await _account(gateway, 'ann@demo.test', {'a': '1', 'b': '2'})).json()['id']}"

    changed = await gateway.admin.patch(path, json={"metadata": {"a": None, "c": "3"}})
    cleared = await gateway.admin.patch(path, json={"metadata": None})

    assert (changed.json()["metadata"], cleared.json()["metadata"]) == ({"b": "2", "c": "3"}, {})


async def test_metadata_is_the_apps_own_to_change(gateway: Gateway) -> None:
    account_id = (await _account(gateway, "ann@demo.test")).json()["id"]
    client = gateway.client(await gateway.token(account_id, scopes=(Scope.SETTINGS, Scope.MAIL_READ)))

    assert (await client.patch("/v1/me", json={"metadata": {"user": "u_8"}})).status_code == 403
    assert (await client.get("/v1/me")).json()["metadata"] == KEPT


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": 1},
        {"a" * 65: "x"},
        {"a": "x" * 513},
        {"": "x"},
        {"a[b]": "x"},
        {"a": "nul \x00"},
        {f"k{number}": "x" for number in range(17)},
        ["a"],
    ],
)
async def test_metadata_is_bounded(gateway: Gateway, metadata: Any) -> None:
    refused = await _account(gateway, "ann@demo.test", metadata)

    assert (refused.status_code, refused.json()["errors"][0]["pointer"].split("/")[1]) == (422, "metadata")


async def test_no_patch_adds_more_keys_than_there_may_be(gateway: Gateway) -> None:
    full = {f"k{number}": "x" for number in range(16)}
    account_id = (await _account(gateway, "ann@demo.test", full)).json()["id"]

    refused = await gateway.admin.patch(f"/v1/accounts/{account_id}", json={"metadata": {"one_more": "x"}})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/metadata")


async def test_metadata_of_a_submission_comes_back_filters_and_is_in_its_events(gateway: Gateway) -> None:
    account_id = (await _account(gateway, "ann@demo.test")).json()["id"]
    scopes = (Scope.MAIL_SEND, Scope.MAIL_READ, Scope.PUSH)
    client = gateway.client(await gateway.token(account_id, scopes=scopes))
    body = {"to": ["bob@demo.test"], "subject": "Hi", "text": "x", "undo_seconds": 3600}

    sent = await client.post("/v1/me/send", json=body | {"metadata": {"order": "4711"}})
    await client.post("/v1/me/send", json=body | {"metadata": {"order": "4712"}})

    assert (sent.status_code, sent.json()["metadata"]) == (202, {"order": "4711"})
    found = (await client.get("/v1/me/submissions", params={"metadata[order]": "4711"})).json()["items"]
    assert [submission["id"] for submission in found] == [sent.json()["id"]]
    events = (await client.get("/v1/me/events", params={"after": "earliest"})).json()["items"]
    kept = [event["data"]["metadata"] for event in events if event["type"].startswith("submission.")]
    assert kept == [{"order": "4711"}, {"order": "4712"}]


async def test_a_misspelt_metadata_parameter_is_refused(gateway: Gateway) -> None:
    for name in ("metadata", "metadata[]", "metadata[a][b]", "meta[a]"):
        refused = await gateway.admin.get("/v1/accounts", params={name: "x"})
        assert refused.status_code == 422, name


async def test_a_change_of_metadata_keeps_what_else_is_known_of_the_account(gateway: Gateway) -> None:
    account_id = (await _account(gateway, "ann@demo.test")).json()["id"]
    await accounts.set_files_sent(gateway.harness.database, account_id, files_sent=True)

    await gateway.admin.patch(f"/v1/accounts/{account_id}", json={"metadata": None})

    assert await accounts.files_sent(gateway.harness.database, account_id)
