from __future__ import annotations

from app.mail.protocol_log import Direction
from app.services.access.callers import Scope

from tests.gateway import Gateway


async def test_a_protocol_log_is_started_read_and_stopped(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    client = gateway.client(await gateway.token(account_id, scopes=[Scope.SETTINGS]))
    recorder = gateway.services.traces.recorder(account_id, "imap")
    assert (await client.get("/v1/me/log")).json() == {"recording_until": None, "items": []}

    started = (await client.post("/v1/me/log", json={"minutes": 5})).json()
    recorder.record(Direction.SENT, "a1 NOOP")
    read = (await client.get("/v1/me/log")).json()

    assert started["recording_until"] is not None
    assert read["recording_until"] == started["recording_until"]
    [line] = read["items"]
    assert (line["protocol"], line["direction"], line["text"]) == ("imap", "sent", "a1 NOOP")

    assert (await client.delete("/v1/me/log")).status_code == 204
    assert (await client.get("/v1/me/log")).json()["items"] == []


async def test_reading_mail_is_not_the_right_to_read_the_log(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    client = gateway.client(await gateway.token(account_id))

    assert (await client.get("/v1/me/log")).status_code == 403
    assert (await client.post("/v1/me/log", json={})).status_code == 403


async def test_the_time_of_a_log_is_bounded(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    for minutes in (0, 1441, "5"):
        refused = await gateway.admin.post(f"/v1/accounts/{account_id}/log", json={"minutes": minutes})
        assert refused.status_code == 422
