"""A request with an Idempotency-Key is made once, whichever token of its sender it comes with."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from app.db import idempotency as rows
from app.db.session import Transaction
from app.mail.types import AccountId
from app.services.access.callers import Scope

from tests.access import ADMIN
from tests.gateway import Gateway
from tests.unit.api.mail import note

MAIL = {"to": [{"address": "bob@demo.test"}], "subject": "Pay 100 EUR", "text": "once"}
KEY = "order-4711"
SCOPES = ["mail.read", "mail.send", "mail.modify", "mailboxes"]


@pytest.fixture
async def ann(gateway: Gateway) -> AccountId:
    await gateway.harness.add_account("bob@demo.test")
    return await gateway.harness.add_account("ann@demo.test", "secret")


async def _minted(gateway: Gateway, account_id: AccountId, **limits: Any) -> str:
    order = {"scopes": SCOPES, "account_ids": [account_id], **limits}
    answer = await gateway.admin.post("/v1/tokens", json=order)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


async def _send(gateway: Gateway, token: str, account: str = "me", key: str = KEY) -> httpx2.Response:
    path = "/v1/me/send" if account == "me" else f"/v1/accounts/{account}/send"
    return await gateway.client(token, **{"Idempotency-Key": key}).post(path, json=MAIL)


async def _submissions(gateway: Gateway, account_id: AccountId) -> int:
    return len((await gateway.services.submissions.page(account_id, ADMIN, 100, None))[0])


async def test_a_send_repeated_with_a_refreshed_token_is_sent_once(gateway: Gateway, ann: AccountId) -> None:
    anonymous = gateway.client(None)
    pair = (await anonymous.post("/v1/session", json={"email": "ann@demo.test", "password": "secret"})).json()
    first = await _send(gateway, pair["access_token"])
    new = (await anonymous.post("/v1/session/refresh", json={"refresh_token": pair["refresh_token"]})).json()

    again = await _send(gateway, new["access_token"])

    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (202, "true")
    assert again.json() == first.json()
    assert await _submissions(gateway, ann) == 1


async def test_two_sign_ins_have_keys_of_their_own(gateway: Gateway, ann: AccountId) -> None:
    for _ in range(2):
        login = {"email": "ann@demo.test", "password": "secret"}
        pair = (await gateway.client(None).post("/v1/session", json=login)).json()
        await _send(gateway, pair["access_token"])

    assert await _submissions(gateway, ann) == 2


@pytest.mark.parametrize("sub", [None, "user-7"])
async def test_a_send_repeated_with_a_newly_minted_token_is_sent_once(
    gateway: Gateway, ann: AccountId, sub: str | None
) -> None:
    other = await gateway.harness.add_account("eve@demo.test")
    first = await _send(gateway, await _minted(gateway, ann, sub=sub))
    wider = await _minted(gateway, ann, sub=sub, account_ids=[ann, other])

    again = await _send(gateway, wider, account=ann)

    assert again.json()["id"] == first.json()["id"]
    assert await _submissions(gateway, ann) == 1


async def test_two_users_of_an_app_have_keys_of_their_own(gateway: Gateway, ann: AccountId) -> None:
    for sub in ("user-7", "user-8"):
        await _send(gateway, await _minted(gateway, ann, sub=sub))

    assert await _submissions(gateway, ann) == 2


async def test_the_account_of_a_token_is_one_by_either_name(gateway: Gateway, ann: AccountId) -> None:
    token = await _minted(gateway, ann)

    first, again = await _send(gateway, token), await _send(gateway, token, account=ann)

    assert again.json()["id"] == first.json()["id"]


async def test_a_key_is_of_one_account_alone(gateway: Gateway, ann: AccountId) -> None:
    eve = await gateway.harness.add_account("eve@demo.test")
    token = await _minted(gateway, ann, account_ids=[ann, eve])

    first, other = await _send(gateway, token, account=ann), await _send(gateway, token, account=eve)

    assert (first.status_code, other.status_code) == (202, 202)
    assert first.json()["id"] != other.json()["id"]


async def test_a_tokens_sub_is_shown_and_kept(gateway: Gateway, ann: AccountId) -> None:
    order = {"scopes": SCOPES, "account_ids": [ann], "sub": "user-7"}
    made = (await gateway.admin.post("/v1/tokens", json=order)).json()

    assert (await gateway.admin.get(f"/v1/tokens/{made['id']}")).json()["sub"] == made["sub"] == "user-7"
    for bad in ("", "a\x00b", "x" * 201):
        assert (await gateway.admin.post("/v1/tokens", json={**order, "sub": bad})).status_code == 422


@pytest.mark.parametrize(
    ("limits", "status"), [({"scopes": ["mail.read"]}, 403), ({"senders": ["other@demo.test"]}, 403)]
)
async def test_an_answer_is_not_given_again_to_a_token_that_may_not_send(
    gateway: Gateway, ann: AccountId, limits: dict[str, Any], status: int
) -> None:
    await _send(gateway, await _minted(gateway, ann))

    again = await _send(gateway, await _minted(gateway, ann, **limits))

    assert again.status_code == status
    assert "Idempotency-Replayed" not in again.headers
    assert await _submissions(gateway, ann) == 1


async def test_an_answer_is_not_given_again_to_a_token_that_sees_other_mailboxes(
    gateway: Gateway, ann: AccountId
) -> None:
    inbox, archive = [(await gateway.harness.mailbox(ann, path)).id for path in ("INBOX", "Archive")]
    source = await gateway.client(await _minted(gateway, ann)).post(
        "/v1/me/messages", params={"mailbox_id": inbox}, content=note("a"), headers={"Content-Type": "message/rfc822"}
    )
    calls: list[tuple[str, dict[str, Any]]] = [
        (f"/v1/me/messages?mailbox_id={inbox}", {"json": {"subject": "x", "text": "x"}}),
        (f"/v1/me/messages?mailbox_id={inbox}", {"content": note("b"), "headers": {"Content-Type": "message/rfc822"}}),
        ("/v1/me/mailboxes", {"json": {"name": "New"}}),
        ("/v1/me/messages/copy", {"json": {"message_ids": [source.json()["id"]], "mailbox_id": inbox}}),
        ("/v1/me/messages/copy", {"json": {"message_ids": [source.json()["id"]], "mailbox_id": archive}}),
        ("/v1/me/send", {"json": MAIL | {"save_to": inbox}}),
        ("/v1/me/send", {"json": {"mode": "reply", "reply_to_message_id": source.json()["id"], **MAIL}}),
    ]
    for number, (path, body) in enumerate(calls):
        wide, narrow = await _minted(gateway, ann), await _minted(gateway, ann, mailbox_ids=[archive])
        first = await gateway.client(wide, **{"Idempotency-Key": str(number)}).post(path, **body)
        again = await gateway.client(narrow, **{"Idempotency-Key": str(number)}).post(path, **body)

        assert first.status_code < 300, first.text
        assert again.status_code in (403, 404, 422), again.text
        assert "Idempotency-Replayed" not in again.headers


async def test_a_ticket_is_given_again_to_its_own_token_alone(gateway: Gateway, ann: AccountId) -> None:
    tokens = [await _minted(gateway, ann, scopes=["push", "mail.read"]) for _ in range(2)]

    tickets = [
        (await gateway.client(token, **{"Idempotency-Key": "k"}).post("/v1/stream/tickets")).json()["ticket"]
        for token in (*tokens, tokens[0])
    ]

    assert tickets[0] == tickets[2] != tickets[1]


async def test_a_key_that_an_earlier_version_kept_refuses_nothing(gateway: Gateway, ann: AccountId) -> None:
    token = await gateway.token(ann, scopes=(Scope.MAIL_SEND,))
    token_id = (await gateway.services.tokens.authenticate(token, None)).token_id

    async def keep(transaction: Transaction) -> None:
        for path in ("/v1/accounts/me/send", f"/v1/accounts/{ann}/send"):
            await rows.take(transaction, f"{token_id} POST {path}", KEY, "a hash of another form")

    await gateway.harness.database.write(keep)

    assert (await _send(gateway, token)).status_code == 202
