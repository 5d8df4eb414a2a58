"""What can be sent, and what is refused at once."""

from __future__ import annotations

import pytest
from app.services.access.callers import Scope

from tests.gateway import Gateway


@pytest.mark.parametrize("undo_seconds", [0, 60])
async def test_mail_to_other_domains_is_refused_at_once_where_it_cannot_leave(
    gateway: Gateway, undo_seconds: int
) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    client = gateway.client(await gateway.token(account_id, scopes=[Scope.MAIL_SEND]))
    both = [{"address": "bob@demo.test"}, {"address": "joe@elsewhere.example"}]

    refused = await client.post("/v1/me/send", json={"to": both, "text": "x", "undo_seconds": undo_seconds})
    taken = await client.post("/v1/me/send", json={"to": both[:1], "text": "x"})

    assert (refused.status_code, refused.json()["code"]) == (501, "not_supported")
    assert taken.status_code == 202
    listed = (await client.get("/v1/me/submissions")).json()["items"]
    assert [one["id"] for one in listed] == [taken.json()["id"]]


async def test_submissions_tell_the_state_to_follow_them_from(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    client = gateway.client(await gateway.token(account_id, scopes=[Scope.MAIL_SEND, Scope.MAIL_READ]))

    listed = (await client.get("/v1/me/submissions")).json()
    order = {"to": [{"address": "bob@demo.test"}], "text": "x", "undo_seconds": 60}
    sent = await client.post("/v1/me/send", json=order)
    cancelled = await client.delete(f"/v1/me/submissions/{sent.json()['id']}")

    assert listed["sync"]["status"] == "live"
    since = [listed["state"], sent.headers["Postgate-State"], cancelled.headers["Postgate-State"]]
    events = [(await client.get("/v1/me/events", params={"after": one})).json()["items"] for one in since]
    assert [len(one) for one in events] == [len(events[0]), 1, 0]
    assert {one["subject"] for one in events[0]} == {sent.json()["id"]}
