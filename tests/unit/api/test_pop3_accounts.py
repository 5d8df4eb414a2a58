"""Accounts over POP3 at the HTTP edge: what they are made of, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from app.cluster.bus import listening
from app.db import syncing
from app.db.session import Transaction
from app.errors import LoginRefused, OriginAnswer
from app.mail.identifiers import now_ms
from app.mail.pop3 import Keeping, poll_topic
from app.mail.types import AccountId

from tests.gateway import Gateway, files_holding
from tests.sync_harness import mail

POP3: dict[str, Any] = {
    "host": "93.184.216.34",
    "port": 995,
    "username": "me",
    "password": "canary-pop3",
}
ORDER: dict[str, Any] = {
    "kind": "pop3",
    "email": "me@example.com",
    "pop3": POP3,
    "smtp": {"host": "93.184.216.34", "port": 465, "username": "me", "password": "canary-smtp"},
}


async def make(gateway: Gateway, **pop3: object) -> dict[str, Any]:
    answer = await gateway.admin.post("/v1/accounts", json={**ORDER, "pop3": {**POP3, **pop3}})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_account_over_pop3_has_mailboxes_of_its_own(gateway: Gateway) -> None:
    made = await make(gateway)

    assert (made["kind"], made["status"], made["sync"]["mode"]) == ("pop3", "ready", "poll")
    assert gateway.backends.tried[0].keys() == {"pop3", "smtp"}
    mailboxes = (await gateway.admin.get(f"/v1/accounts/{made['id']}/mailboxes")).json()["items"]
    assert {one["role"] for one in mailboxes} == {"inbox", "drafts", "sent", "archive", "junk", "trash"}


@pytest.mark.parametrize("text", ["keep", "keep_days:30", "keep_last:100", "mirror_delete", "remove_after_download"])
async def test_every_rule_of_what_stays_is_taken_and_can_be_changed(gateway: Gateway, text: str) -> None:
    id_ = AccountId((await make(gateway, retention=text))["id"])
    shown = (await gateway.admin.get(f"/v1/accounts/{id_}")).json()["pop3"]
    assert (shown["retention"], shown["mirror"]) == (text, False)

    changed = await gateway.admin.patch(
        f"/v1/accounts/{id_}", json={"pop3": {"retention": "keep_last:7", "mirror": True}}
    )

    assert changed.status_code == 200
    shown = {"port": 995, "username": "me", "auth": "password", "retention": "keep_last:7", "mirror": True}
    assert shown.items() <= changed.json()["pop3"].items()
    _, servers = await gateway.services.accounts.servers(id_)
    assert (servers.rules.retention.keeping, servers.rules.retention.count) == (Keeping.KEEP_LAST, 7)
    assert servers.rules.is_mirror
    assert servers.pop3 is not None
    assert servers.pop3.password == "canary-pop3"
    assert gateway.backends.forgotten == [id_]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "forever",
        "keep:1",
        "keep_days",
        "keep_days:0",
        "keep_days:-1",
        "keep_days:x",
        "keep_last:1000001",
        "keep_last:٣",
    ],
)
async def test_a_rule_that_is_none_is_refused_at_its_place(gateway: Gateway, text: str) -> None:
    refused = await gateway.admin.post("/v1/accounts", json={**ORDER, "pop3": {**POP3, "retention": text}})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/pop3/retention"


@pytest.mark.parametrize("value", ["yes", 1, "true"])
async def test_to_mirror_is_true_or_false_and_nothing_that_passes_for_it(gateway: Gateway, value: object) -> None:
    refused = await gateway.admin.post("/v1/accounts", json={**ORDER, "pop3": {**POP3, "mirror": value}})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/pop3/mirror"


@pytest.mark.parametrize("name", ["username", "password"])
@pytest.mark.parametrize("text", ["me\r\nDELE 1", "me\nQUIT", "me\r", "me\0"])
async def test_a_login_with_a_line_end_is_refused_at_its_place(gateway: Gateway, name: str, text: str) -> None:
    refused = await gateway.admin.post("/v1/accounts", json={**ORDER, "pop3": {**POP3, name: text}})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == f"/pop3/{name}"
    assert gateway.backends.tried == []


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "2130706433"])
async def test_a_pop3_host_inside_is_refused_before_any_connection(gateway: Gateway, host: str) -> None:
    refused = await gateway.admin.post(
        "/v1/accounts", params={"verify": "false"}, json={**ORDER, "pop3": {**POP3, "host": host}}
    )

    is_name = host.isdigit()
    assert refused.status_code == (201 if is_name else 422)  # such a name is judged where it resolves
    if not is_name:
        assert refused.json()["code"] == "address_not_allowed"
        assert refused.json()["errors"][0]["pointer"] == "/pop3/host"


async def test_servers_of_another_kind_are_refused(gateway: Gateway) -> None:
    for order in ({**ORDER, "imap": POP3}, {**ORDER, "pop3": None}, {**ORDER, "kind": "imap"}):
        refused = await gateway.admin.post("/v1/accounts", json=order)
        assert refused.status_code == 422, order


async def test_a_refused_login_keeps_nothing(gateway: Gateway) -> None:
    gateway.backends.refusal = LoginRefused(origin=OriginAnswer("pop3", "-ERR [AUTH] no"))

    refused = await gateway.admin.post("/v1/accounts", json=ORDER)

    assert refused.status_code == 424
    assert refused.json()["origin"]["protocol"] == "pop3"
    assert (await gateway.admin.get("/v1/accounts")).json()["items"] == []


async def test_a_password_is_nowhere_in_clear(gateway: Gateway) -> None:
    made = await make(gateway)

    assert "canary" not in (await gateway.admin.get(f"/v1/accounts/{made['id']}")).text
    assert files_holding(gateway.folder, b"canary-pop3") == []


async def test_mail_of_an_account_over_pop3_is_ours_to_organise(gateway: Gateway) -> None:
    path = f"/v1/accounts/{(await make(gateway))['id']}"
    made = await gateway.admin.post(f"{path}/mailboxes", json={"name": "Bills"})
    target = made.json()["id"]
    inbox = next(
        one["id"] for one in (await gateway.admin.get(f"{path}/mailboxes")).json()["items"] if one["role"] == "inbox"
    )
    imported = await gateway.admin.post(
        f"{path}/messages",
        params={"mailbox_id": inbox},
        content=mail("bill"),
        headers={"Content-Type": "message/rfc822"},
    )
    id_ = imported.json()["id"]

    changed = await gateway.admin.patch(
        f"{path}/messages/{id_}", json={"keywords": {"add": ["$flagged"]}, "mailbox_id": target}
    )
    listed = await gateway.admin.get(f"{path}/messages", params={"mailbox_id": target})

    assert changed.status_code == 200
    assert [(one["id"], one["keywords"]) for one in listed.json()["items"]] == [(id_, ["$flagged"])]
    assert listed.json()["sync"]["mode"] == "poll"


# ---- polling now


async def test_a_poll_is_for_accounts_over_pop3(gateway: Gateway) -> None:
    id_ = await gateway.harness.add_account("ann@demo.test")

    refused = await gateway.admin.post(f"/v1/accounts/{id_}/pop3/fetch")

    assert (refused.status_code, refused.json()["code"]) == (501, "not_supported")


async def test_a_poll_that_does_not_end_in_time_goes_on(gateway: Gateway) -> None:
    made = await make(gateway)

    answer = await gateway.admin.post(f"/v1/accounts/{made['id']}/pop3/fetch", params={"wait": 0})

    assert answer.status_code == 202
    assert (answer.json()["is_done"], answer.json()["created"]) == (False, [])


async def test_a_poll_answers_what_came(gateway: Gateway) -> None:
    id_ = AccountId((await make(gateway))["id"])

    async def worker() -> None:
        with listening(gateway.harness.bus, poll_topic(id_)) as waiter:
            await waiter.wait()
        inbox = await gateway.harness.mailbox(id_)
        stored = await gateway.harness.store.keep(mail("fresh"))
        await gateway.harness.store.add(id_, inbox.id, [(stored, frozenset(), None)])

        async def checked(transaction: Transaction) -> None:
            await syncing.set_state(transaction, id_, checked_at_ms=now_ms() + 1)

        await gateway.harness.database.write(checked)
        gateway.harness.bus.poke(id_)

    work = asyncio.create_task(worker())
    await asyncio.sleep(0)
    answer = await gateway.admin.post(f"/v1/accounts/{id_}/pop3/fetch")
    await work

    assert answer.status_code == 200
    assert [one["subject"] for one in orjson.loads(answer.content)["created"]] == ["fresh"]
    changes = await gateway.admin.get(f"/v1/accounts/{id_}/changes", params={"since": answer.json()["state"]})
    assert len(changes.json()["created"]) == 1


async def test_an_account_that_nobody_polls_says_why(gateway: Gateway) -> None:
    id_ = AccountId((await make(gateway))["id"])

    async def refused(transaction: Transaction) -> None:
        await syncing.set_state(transaction, id_, status="auth_required")

    await gateway.harness.database.write(refused)

    assert (await gateway.admin.post(f"/v1/accounts/{id_}/pop3/fetch")).status_code == 424
