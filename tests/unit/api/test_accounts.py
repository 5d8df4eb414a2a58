from __future__ import annotations

import pytest
from app.db import syncing
from app.db.session import Transaction
from app.errors import CertificateRefused, LoginRefused, OriginAnswer, TimedOut, Unreachable
from app.mail.identifiers import now_ms
from app.mail.summaries import iso
from app.services.access.callers import Scope

from tests.gateway import Gateway

REMOTE = {
    "kind": "imap",
    "email": "me@example.com",
    "name": "Me",
    "imap": {"host": "93.184.216.34", "port": 993, "username": "me", "password": "canary-imap"},
    "smtp": {"host": "93.184.216.34", "port": 465, "username": "me", "password": "canary-smtp"},
}
EMBEDDED = {"kind": "embedded", "email": "Ann@demo.test", "name": "Ann", "password": "secret"}


async def test_an_embedded_account_comes_with_its_mailboxes(gateway: Gateway) -> None:
    made = await gateway.admin.post("/v1/accounts", json=EMBEDDED)

    assert made.status_code == 201
    account = made.json()
    assert account["status"] == "ready"
    assert account["sync"]["mode"] == "embedded"
    assert made.headers["Location"] == f"/v1/accounts/{account['id']}"
    mailboxes = (await gateway.admin.get(f"/v1/accounts/{account['id']}/mailboxes")).json()["items"]
    assert {one["role"] for one in mailboxes} == {"inbox", "drafts", "sent", "archive", "junk", "trash"}


async def test_an_account_shows_its_servers_without_a_secret(gateway: Gateway) -> None:
    made = await gateway.admin.post("/v1/accounts", json=REMOTE)

    account = made.json()
    at = {"host": "93.184.216.34", "security": "tls", "username": "me", "auth": "password"}
    assert (account["imap"], account["smtp"], account["pop3"]) == ({**at, "port": 993}, {**at, "port": 465}, None)
    assert (await gateway.admin.get(made.headers["Location"])).json() == account
    assert (await gateway.admin.get("/v1/accounts")).json()["items"] == [account]
    assert "canary" not in made.text


async def test_an_embedded_account_has_no_other_servers(gateway: Gateway) -> None:
    account = (await gateway.admin.post("/v1/accounts", json=EMBEDDED)).json()

    assert (account["imap"], account["pop3"], account["smtp"]) == (None, None, None)


async def test_an_account_that_was_never_reached_lags_by_an_unknown_time(gateway: Gateway) -> None:
    account = (await gateway.admin.post("/v1/accounts", json=REMOTE)).json()

    fresh = {"status": "initial", "mode": "poll", "lag_seconds": None, "checked_at": None}
    assert account["sync"] == fresh | {"incomplete": 0, "incomplete_mailboxes": []}


async def test_an_account_that_is_down_lags_since_it_was_last_reached(gateway: Gateway) -> None:
    id_ = (await gateway.admin.post("/v1/accounts", json=REMOTE)).json()["id"]
    reached_at_ms = now_ms() - 90_000

    async def lose(transaction: Transaction) -> None:
        await syncing.set_state(transaction, id_, sync_status="down", checked_at_ms=reached_at_ms)

    await gateway.harness.database.write(lose)
    sync = (await gateway.admin.get(f"/v1/accounts/{id_}")).json()["sync"]

    assert sync["lag_seconds"] >= 90
    assert sync["checked_at"] == iso(reached_at_ms)


async def test_an_embedded_account_is_as_fresh_as_the_answer(gateway: Gateway) -> None:
    made_at_ms = now_ms()
    sync = (await gateway.admin.post("/v1/accounts", json=EMBEDDED)).json()["sync"]

    assert (sync["status"], sync["mode"], sync["lag_seconds"]) == ("live", "embedded", 0)
    assert iso(made_at_ms) <= sync["checked_at"] <= iso(now_ms())


async def test_an_embedded_address_exists_once(gateway: Gateway) -> None:
    await gateway.admin.post("/v1/accounts", json=EMBEDDED)

    again = await gateway.admin.post("/v1/accounts", json={**EMBEDDED, "email": "ann@DEMO.test"})

    assert again.status_code == 409
    assert again.json()["code"] == "already_exists"


async def test_an_embedded_account_of_a_foreign_domain_is_refused(gateway: Gateway) -> None:
    refused = await gateway.admin.post("/v1/accounts", json={**EMBEDDED, "email": "ann@example.com"})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/email"


async def test_a_remote_account_is_ready_when_its_logins_work(gateway: Gateway) -> None:
    made = await gateway.admin.post("/v1/accounts", json=REMOTE)

    assert made.status_code == 201
    assert made.json()["status"] == "ready"
    assert made.json()["sync"]["status"] == "initial"
    (imap, smtp) = gateway.backends.verified[0]
    assert imap is not None
    assert smtp is not None
    assert (imap.password, smtp.password) == ("canary-imap", "canary-smtp")


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (LoginRefused(origin=OriginAnswer("imap", "NO [AUTHENTICATIONFAILED]")), 424, "mail_login_refused"),
        (Unreachable(), 503, "mail_server_unreachable"),
        (CertificateRefused(), 503, "mail_server_certificate"),
        (TimedOut(), 504, "mail_server_timeout"),
    ],
)
async def test_a_remote_account_whose_login_fails_is_not_kept(
    gateway: Gateway, refusal: Exception, status: int, code: str
) -> None:
    gateway.backends.refusal = refusal

    refused = await gateway.admin.post("/v1/accounts", json=REMOTE)

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await gateway.admin.get("/v1/accounts")).json()["items"] == []


async def test_without_verification_an_account_is_kept_at_once(gateway: Gateway) -> None:
    gateway.backends.refusal = LoginRefused()

    made = await gateway.admin.post("/v1/accounts", params={"verify": "false"}, json=REMOTE)

    assert made.status_code == 201
    assert made.json()["status"] == "connecting"


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"])
@pytest.mark.parametrize("verify", ["true", "false"])
async def test_a_host_inside_gets_one_answer_before_any_connection(gateway: Gateway, host: str, verify: str) -> None:
    order = {**REMOTE, "smtp": {**REMOTE["smtp"], "host": host}}  # type: ignore[dict-item]

    refused = await gateway.admin.post("/v1/accounts", params={"verify": verify}, json=order)

    assert refused.status_code == 422
    assert refused.json()["code"] == "address_not_allowed"
    assert refused.json()["errors"][0]["pointer"] == "/smtp/host"
    assert gateway.backends.verified == []


async def test_a_new_password_is_tried_before_it_is_kept(gateway: Gateway) -> None:
    id_ = (await gateway.admin.post("/v1/accounts", json=REMOTE)).json()["id"]

    changed = await gateway.admin.patch(f"/v1/accounts/{id_}", json={"imap": {"password": "other"}, "name": "I"})

    assert changed.status_code == 200
    assert changed.json()["name"] == "I"
    imap, smtp = gateway.backends.verified[1]
    assert imap is not None
    assert (imap.host, imap.password) == ("93.184.216.34", "other")
    assert smtp is not None
    assert smtp.password == "canary-smtp"
    assert gateway.backends.forgotten == [id_]


async def test_a_known_password_is_never_sent_to_another_host(gateway: Gateway) -> None:
    id_ = (await gateway.admin.post("/v1/accounts", json=REMOTE)).json()["id"]

    refused = await gateway.admin.patch(f"/v1/accounts/{id_}", json={"imap": {"host": "93.184.216.35"}})

    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"pointer": "/imap/password", "detail": "Required"}]
    assert len(gateway.backends.verified) == 1


async def test_a_refused_verification_is_seen_in_the_status(gateway: Gateway) -> None:
    id_ = (await gateway.admin.post("/v1/accounts", json=REMOTE)).json()["id"]
    gateway.backends.refusal = LoginRefused()

    assert (await gateway.admin.post(f"/v1/accounts/{id_}/verify")).status_code == 424
    assert (await gateway.admin.get(f"/v1/accounts/{id_}")).json()["status"] == "auth_required"

    gateway.backends.refusal = None
    assert (await gateway.admin.post(f"/v1/accounts/{id_}/verify")).json()["status"] == "ready"


async def test_a_removed_account_is_gone_with_its_tokens_and_mail(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("bob@demo.test")
    client = gateway.client(await gateway.token(account_id))
    assert (await client.get("/v1/me")).status_code == 200

    assert (await gateway.admin.delete(f"/v1/accounts/{account_id}")).status_code == 204

    gateway.services.tokens.forget()
    assert (await client.get("/v1/me")).status_code == 401
    assert (await gateway.admin.get(f"/v1/accounts/{account_id}")).status_code == 404
    assert await gateway.harness.reader.mailboxes.mailboxes(account_id) == []


async def test_a_token_lists_its_own_accounts_alone(gateway: Gateway) -> None:
    ann, _, cid = [await gateway.harness.add_account(f"{name}@demo.test") for name in ("ann", "bob", "cid")]

    page = (await gateway.client(await gateway.token(ann, cid)).get("/v1/accounts")).json()

    assert [one["id"] for one in page["items"]] == [ann, cid]


async def test_pages_of_accounts_join_to_the_whole_list(gateway: Gateway) -> None:
    ids = [await gateway.harness.add_account(f"user{number}@demo.test") for number in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = (
            await gateway.admin.get("/v1/accounts", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == sorted(ids)


async def test_me_is_the_account_of_a_token_that_holds_one(gateway: Gateway) -> None:
    ann, bob = [await gateway.harness.add_account(f"{name}@demo.test") for name in ("ann", "bob")]

    assert (await gateway.client(await gateway.token(ann)).get("/v1/me")).json()["id"] == ann
    assert (await gateway.client(await gateway.token(ann, bob)).get("/v1/me")).status_code == 404
    assert (await gateway.admin.get("/v1/me/mailboxes")).status_code == 404


async def test_a_key_limited_to_accounts_adds_none(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    key = await gateway.admin.post("/v1/tokens", json={"kind": "server", "scopes": [Scope.ADMIN], "account_ids": [ann]})

    refused = await gateway.client(key.json()["token"]).post("/v1/accounts", json=EMBEDDED)

    assert refused.status_code == 403


@pytest.mark.parametrize("name", ["username", "password"])
async def test_a_login_with_a_line_end_is_refused_at_its_place(gateway: Gateway, name: str) -> None:
    imap = {"host": "imap.example.com", "port": 993, "username": "me", "password": "secret"} | {name: "a\r\nb"}

    answer = await gateway.admin.post("/v1/accounts", json={"kind": "imap", "email": "me@example.com", "imap": imap})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/imap/{name}")
    assert gateway.backends.verified == []


async def test_a_list_of_accounts_links_to_its_next_page(gateway: Gateway) -> None:
    for name in ("ann", "bob"):
        await gateway.harness.add_account(f"{name}@demo.test")

    first = await gateway.admin.get("/v1/accounts", params={"limit": 1})
    target = first.headers["Link"].partition(">")[0].removeprefix("<")
    second = await gateway.admin.get(target)

    assert first.headers["Link"].endswith('; rel="next"')
    assert {first.json()["items"][0]["email"], second.json()["items"][0]["email"]} == {"ann@demo.test", "bob@demo.test"}


async def test_an_account_tells_its_state(gateway: Gateway) -> None:
    path = (await gateway.admin.post("/v1/accounts", json=EMBEDDED)).headers["Location"]

    state = (await gateway.admin.get(path)).headers["Postgate-State"]

    assert state == (await gateway.admin.get(f"{path}/mailboxes")).json()["state"]
