"""Least rights: what a token cannot change, see or make."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from app.services.access.callers import ACCOUNT_SCOPES, Scope
from app.services.access.logins import Login

from tests.gateway import Gateway, without_request_id
from tests.unit.api.mail import Mail, note

EMAIL, PASSWORD = "ann@demo.test", "first secret"
NEW = "second secret"
IMAP = {"host": "93.184.216.34", "port": 993, "username": "me", "password": "pw"}


async def sign_in(gateway: Gateway, password: str = PASSWORD, email: str = EMAIL) -> httpx2.Response:
    return await gateway.client(None).post("/v1/session", json={"email": email, "password": password})


async def signed_in(gateway: Gateway, password: str = PASSWORD) -> httpx2.AsyncClient:
    answer = await sign_in(gateway, password)
    assert answer.status_code == 201
    return gateway.client(answer.json()["access_token"])


async def change(client: httpx2.AsyncClient, old: str = PASSWORD, new: str = NEW, **fields: Any) -> httpx2.Response:
    order = {"old_password": old, "new_password": new, **fields}
    return await client.post("/v1/me/password", json=order)


# ---- passwords


async def test_a_password_changed_by_its_owner_ends_all_other_sign_ins_with_what_they_made(gateway: Gateway) -> None:
    await gateway.harness.add_account(EMAIL, PASSWORD)
    mine = (await sign_in(gateway)).json()
    other = (await sign_in(gateway)).json()
    made = await gateway.client(other["access_token"]).post(
        "/v1/tokens", json={"account_ids": [other["account_id"]], "scopes": ["mail.read"]}
    )
    assert made.status_code == 201

    changed = await change(gateway.client(mine["access_token"]))

    assert changed.status_code == 200
    assert changed.headers["cache-control"] == "no-store"
    ended = (mine["access_token"], other["access_token"], made.json()["token"])
    for secret in ended:
        refused = await gateway.client(secret).get("/v1/me")
        assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
    for pair in (mine, other):
        refresh = await gateway.client(None).post("/v1/session/refresh", json={"refresh_token": pair["refresh_token"]})
        assert refresh.status_code == 401
    assert (await gateway.client(changed.json()["access_token"]).get("/v1/me")).status_code == 200
    next_pair = await gateway.client(None).post(
        "/v1/session/refresh", json={"refresh_token": changed.json()["refresh_token"]}
    )
    assert next_pair.status_code == 200
    assert (await sign_in(gateway)).status_code == 401
    assert (await sign_in(gateway, NEW)).status_code == 201


async def test_tokens_of_server_keys_outlive_a_changed_password_unless_they_are_to_end(gateway: Gateway) -> None:
    ann, bob = await gateway.harness.add_account(EMAIL, PASSWORD), await gateway.harness.add_account("bob@demo.test")
    of_ann, of_both, of_bob = [await gateway.token(*ids) for ids in ((ann,), (ann, bob), (bob,))]

    client = await signed_in(gateway)
    pair = (await change(client)).json()
    assert [(await gateway.client(one).get("/v1/accounts")).status_code for one in (of_ann, of_both)] == [200, 200]
    await change(gateway.client(pair["access_token"]), NEW, PASSWORD, revoke_tokens=True)

    answers = [(await gateway.client(one).get("/v1/accounts")).status_code for one in (of_ann, of_both, of_bob)]
    assert answers == [401, 401, 200]
    assert (await gateway.admin.get("/v1/accounts")).status_code == 200


async def test_a_password_is_changed_by_a_sign_in_alone(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account(EMAIL, PASSWORD)
    client = await signed_in(gateway)
    made = await client.post("/v1/tokens", json={"account_ids": [ann], "scopes": ["settings"]})

    for secret in (made.json()["token"], await gateway.token(ann, scopes=tuple(ACCOUNT_SCOPES))):
        refused = await change(gateway.client(secret))
        assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert (await gateway.admin.post(f"/v1/accounts/{ann}/password", json={})).status_code == 422
    assert (await sign_in(gateway)).status_code == 201


async def test_a_wrong_old_password_counts_as_a_failed_login(gateway: Gateway) -> None:
    await gateway.harness.add_account(EMAIL, PASSWORD)
    client = await signed_in(gateway)

    refused = await change(client, "wrong")

    assert refused.status_code == 401
    assert gateway.harness.waits == [0.1]
    assert (await sign_in(gateway)).status_code == 201


@pytest.mark.parametrize(("field", "value"), [("new_password", ""), ("new_password", "a\nb"), ("surprise", 1)])
async def test_a_password_that_cannot_be_is_refused_with_a_pointer(gateway: Gateway, field: str, value: object) -> None:
    await gateway.harness.add_account(EMAIL, PASSWORD)

    refused = await (await signed_in(gateway)).post(
        "/v1/me/password", json={"old_password": PASSWORD, "new_password": NEW, field: value}
    )

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == f"/{field}"
    assert PASSWORD not in refused.text


async def test_the_password_of_a_remote_account_is_compared_with_the_stored_one_and_tried_at_its_server(
    gateway: Gateway,
) -> None:
    order = {"kind": "imap", "email": EMAIL, "imap": IMAP, "smtp": {**IMAP, "port": 465}}
    account = (await gateway.admin.post("/v1/accounts", json=order)).json()["id"]
    pair = await gateway.services.sessions.open(Login(account, 0))
    client = gateway.client(pair.access_token)

    assert (await change(client, "wrong")).status_code == 401
    changed = await change(client, "pw", NEW)

    assert changed.status_code == 200
    assert {name: one.password for name, one in gateway.backends.tried[-1].items()} == {"imap": NEW, "smtp": NEW}
    _, servers = await gateway.services.accounts.servers(account)
    assert {one.password for one in servers.logins.values()} == {NEW}
    assert account in gateway.backends.forgotten
    assert (await client.get("/v1/me")).status_code == 401


async def test_a_sign_in_by_a_password_that_was_changed_meanwhile_is_refused(gateway: Gateway) -> None:
    await gateway.harness.add_account(EMAIL, PASSWORD)
    login = await gateway.services.sessions.verify(EMAIL, PASSWORD, "127.0.0.1")
    await change(await signed_in(gateway))

    with pytest.raises(Exception, match="password is wrong"):
        await gateway.services.sessions.open(login)


async def test_a_password_set_by_a_key_ends_the_sign_ins_too(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account(EMAIL, PASSWORD)
    client = await signed_in(gateway)

    assert (await gateway.admin.patch(f"/v1/accounts/{ann}", json={"password": NEW})).status_code == 200

    assert (await client.get("/v1/me")).json()["code"] == "token_revoked"


@pytest.mark.parametrize(
    "order",
    [
        {"password": NEW},
        {"imap": {"host": "93.184.216.35"}},
        {"imap": {"password": "x"}},
        {"smtp": {"username": "x"}},
        {"smtp": {"security": "none"}},
        {"pop3": {"port": 110}},
        {"oauth": {"provider": "google", "refresh_token": "x"}},
        {"name": "Ann", "password": NEW},
    ],
)
async def test_what_lets_someone_in_is_changed_by_admin_alone(gateway: Gateway, order: dict[str, Any]) -> None:
    ann = await gateway.harness.add_account(EMAIL, PASSWORD)
    tokens = [await gateway.token(ann, scopes=tuple(ACCOUNT_SCOPES))]
    clients = [gateway.client(one) for one in tokens] + [await signed_in(gateway)]

    for client in clients:
        refused = await client.patch("/v1/me", json=order)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
        assert (await client.patch("/v1/me", json={"name": "Ann"})).status_code == 200
    assert (await sign_in(gateway)).status_code == 201


@pytest.mark.parametrize("limits", [{"mailbox_ids": ("mbx_1",)}, {"mailbox_ids": ()}, {"senders": ()}])
async def test_a_limited_token_changes_nothing_of_the_whole_account(gateway: Gateway, limits: dict[str, Any]) -> None:
    ann = await gateway.harness.add_account(EMAIL, PASSWORD)
    client = gateway.client(await gateway.token(ann, scopes=tuple(ACCOUNT_SCOPES), **limits))

    answers = [
        await client.patch("/v1/me", json={"name": "Eve"}),
        await client.post("/v1/me/verify"),
        await client.post("/v1/me/reconnect"),
        await client.get("/v1/me/log"),
        await client.post("/v1/me/log", json={"minutes": 5}),
        await change(client),
    ]

    assert [answer.status_code for answer in answers] == [403] * 6


# ---- tokens


LIMITS: dict[str, Any] = {
    "mailbox_ids": ["mbx_1"],
    "senders": ["ann@demo.test"],
    "origins": ["https://a.test"],
    "networks": ["127.0.0.0/8"],
}


async def _limited_key(gateway: Gateway, **more: Any) -> httpx2.AsyncClient:
    ann = await gateway.harness.add_account(EMAIL, PASSWORD)
    order = {"kind": "server", "scopes": ["admin", "mail.read"], "account_ids": [ann], **LIMITS, **more}
    made = await gateway.admin.post("/v1/tokens", json=order)
    assert made.status_code == 201
    return gateway.client(made.json()["token"])


async def _own(key: httpx2.AsyncClient) -> dict[str, Any]:
    """The widest order that a limited key may place."""
    account = (await key.get("/v1/accounts")).json()["items"][0]["id"]
    return {"kind": "server", "scopes": ["admin", "mail.read"], "account_ids": [account], **LIMITS}


@pytest.mark.parametrize(
    ("wider", "pointer"),
    [
        ({"scopes": ["mail.send"]}, "/scopes"),
        ({"account_ids": None}, "/account_ids"),
        ({"mailbox_ids": None}, "/mailbox_ids"),
        ({"mailbox_ids": ["mbx_1", "mbx_2"]}, "/mailbox_ids/1"),
        ({"senders": None}, "/senders"),
        ({"senders": ["bob@demo.test"]}, "/senders/0"),
        ({"origins": None}, "/origins"),
        ({"origins": ["https://b.test"]}, "/origins/0"),
        ({"networks": None}, "/networks"),
        ({"networks": ["0.0.0.0/0"]}, "/networks/0"),
        ({"networks": ["126.0.0.0/7"]}, "/networks/0"),
        ({"networks": ["::/0"]}, "/networks/0"),
        ({"expires_in_seconds": 700}, "/expires_in_seconds"),
    ],
)
async def test_a_token_makes_none_that_is_wider_or_longer_than_itself(
    gateway: Gateway, wider: dict[str, Any], pointer: str
) -> None:
    key = await _limited_key(gateway, expires_in_seconds=600)

    refused = await key.post("/v1/tokens", json={**await _own(key), **wider})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer


async def test_a_token_that_is_made_within_limits_ends_with_its_maker(gateway: Gateway) -> None:
    key = await _limited_key(gateway, expires_in_seconds=600)
    own = (await key.get("/v1/tokens")).json()["items"][0]
    narrower = {**await _own(key), "networks": ["127.0.0.1"], "senders": ["ANN@demo.test"]}
    child = (await key.post("/v1/tokens", json=narrower)).json()
    assert child["expires_at"] <= own["expires_at"]
    assert child["senders"] == ["ann@demo.test"]
    grandchild = await gateway.client(child["token"]).post(
        "/v1/tokens", json={**narrower, "kind": "account", "scopes": ["mail.read"]}
    )
    assert grandchild.status_code == 201
    assert (await gateway.client(grandchild.json()["token"]).get("/v1/accounts")).status_code == 200

    assert (await gateway.admin.delete(f"/v1/tokens/{own['id']}")).status_code == 204

    for secret in (child["token"], grandchild.json()["token"]):
        assert (await gateway.client(secret).get("/v1/accounts")).json()["code"] == "token_revoked"


async def test_a_limited_key_changes_nothing_that_all_accounts_share(gateway: Gateway) -> None:
    app = {"provider": "google", "client_id": "id", "redirect_urls": ["https://app.test/"]}
    made = (await gateway.admin.post("/v1/oauth-apps", json=app)).json()
    key = await _limited_key(gateway)
    path = f"/v1/oauth-apps/{made['id']}"

    answers = [
        await key.patch(path, json={"redirect_urls": ["https://evil.test/"]}),
        await key.delete(path),
        await key.post("/v1/oauth-apps", json=app),
        await key.get("/v1/metrics"),
        await key.get("/metrics"),
        await key.post("/v1/accounts", json={"kind": "embedded", "email": "x@demo.test", "password": "x"}),
        await key.delete("/v1/accounts/" + (await _own(key))["account_ids"][0]),
    ]

    assert {answer.status_code for answer in answers} <= {403, 404}
    assert answers[0].status_code == 403
    assert (await gateway.admin.get(path)).json()["redirect_urls"] == ["https://app.test/"]


async def test_a_connect_session_ends_with_the_key_that_opened_it(gateway: Gateway) -> None:
    app = {"provider": "google", "client_id": "id", "redirect_urls": ["https://app.test/"]}
    await gateway.admin.post("/v1/oauth-apps", json=app)
    made = (await gateway.admin.post("/v1/tokens", json={"kind": "server", "scopes": ["admin"]})).json()
    key, visitor = gateway.client(made["token"]), gateway.client(None)
    order = {"redirect_url": "https://app.test/done"}
    urls = [(await key.post("/v1/connect/sessions", json=order)).json()["url"] for _ in range(2)]
    assert (await visitor.get(urls[0])).status_code == 200

    await gateway.admin.delete(f"/v1/tokens/{made['id']}")

    assert [(await visitor.get(url)).status_code for url in urls] == [404, 404]


async def test_a_sign_in_makes_narrower_tokens_for_its_own_account(gateway: Gateway) -> None:
    ann, bob = await gateway.harness.add_account(EMAIL, PASSWORD), await gateway.harness.add_account("bob@demo.test")
    client = await signed_in(gateway)

    made = await client.post("/v1/tokens", json={"account_ids": [ann], "scopes": ["push"]})
    refused = [
        await client.post("/v1/tokens", json=order)
        for order in (
            {"account_ids": [bob], "scopes": ["push"]},
            {"account_ids": [ann], "scopes": ["admin"]},
            {"account_ids": [ann], "scopes": ["push"], "kind": "server"},
            {"account_ids": [ann], "scopes": ["push"], "expires_in_seconds": 3600},
        )
    ]

    assert made.status_code == 201
    assert [one.status_code for one in refused] == [422] * 4
    child = gateway.client(made.json()["token"])
    assert (await child.post("/v1/tokens", json={"account_ids": [ann], "scopes": ["push"]})).status_code == 403
    assert (await child.delete("/v1/session")).status_code == 404
    assert (await client.delete("/v1/session")).status_code == 204
    assert (await child.get("/v1/me/events")).json()["code"] == "token_revoked"


async def test_an_expired_token_says_so(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account(EMAIL)

    refused = await gateway.client(await gateway.token(ann, expires_in_seconds=-1)).get("/v1/me")

    assert (refused.status_code, refused.json()["code"]) == (401, "token_expired")


# ---- what limited tokens see


async def _limited(mail: Mail, *scopes: Scope, **limits: Any) -> httpx2.AsyncClient:
    secret = await mail.gateway.token(mail.account_id, scopes=scopes or tuple(ACCOUNT_SCOPES), **limits)
    return mail.gateway.client(secret)


async def test_a_token_of_one_mailbox_takes_no_role_and_no_hidden_parent(mail: Mail) -> None:
    archive, sent = await mail.mailbox_id("Archive"), await mail.mailbox_id("Sent")
    client = await _limited(mail, mailbox_ids=(archive,))
    path = f"/v1/me/mailboxes/{archive}"

    assert (await client.patch(path, json={"role": "sent"})).status_code == 403
    assert (await client.patch(path, json={"role": None})).status_code == 403
    hidden = await client.patch(path, json={"parent_id": sent})
    unknown = await client.patch(path, json={"parent_id": "mbx_unknown"})
    assert without_request_id(hidden) == without_request_id(unknown)
    assert hidden.status_code == 422
    assert (await client.patch(path, json={"is_subscribed": False})).status_code == 200


async def test_a_mailbox_below_a_hidden_one_does_not_tell_its_path(mail: Mail) -> None:
    parent = (await mail.client.post("/v1/me/mailboxes", json={"name": "Merger"})).json()["id"]
    child = (await mail.client.post("/v1/me/mailboxes", json={"name": "Open", "parent_id": parent})).json()["id"]
    state = (await mail.get())["state"]
    await mail.client.patch(f"/v1/me/mailboxes/{child}", json={"name": "Public"})
    client = await _limited(mail, mailbox_ids=(child,))

    listed = await client.get("/v1/me/mailboxes")
    one = await client.get(f"/v1/me/mailboxes/{child}")
    changes = await client.get("/v1/me/changes", params={"since": state})
    events = await client.get("/v1/me/events", params={"after": state})

    assert (one.json()["path"], one.json()["parent_id"]) == ("Public", None)
    assert events.json()["items"][-1]["data"]["path"] == "Public"
    for answer in (listed, one, changes, events):
        assert "Merger" not in answer.text
        assert parent not in answer.text


async def test_limited_tokens_see_and_cancel_submissions_of_their_senders_and_mailboxes_alone(mail: Mail) -> None:
    state = (await mail.get())["state"]
    order = {"to": [{"address": "bob@demo.test"}], "subject": "Secret", "text": "x", "undo_seconds": 600}
    whole = await _limited(mail)
    sent = await whole.post("/v1/me/send", json=order)
    assert sent.status_code == 202
    path = f"/v1/me/submissions/{sent.json()['id']}"
    inbox = await mail.mailbox_id()

    for limits in ({"senders": ()}, {"senders": ("eve@demo.test",)}, {"mailbox_ids": (inbox,)}):
        client = await _limited(mail, **limits)
        assert (await client.get("/v1/me/submissions")).json()["items"] == []
        assert (await client.get(path)).json()["code"] == "submission_not_found"
        assert (await client.delete(path)).status_code == 404
        later = {"send_at": "2036-01-01T00:00:00Z"}
        assert (await client.patch(path, json=later)).status_code in (404, 422)
        events = await client.get("/v1/me/events", params={"after": state})
        assert "submission" not in events.text
    own = await _limited(mail, senders=((await whole.get("/v1/me")).json()["email"],))
    assert [one["id"] for one in (await own.get("/v1/me/submissions")).json()["items"]] == [sent.json()["id"]]
    assert (await whole.delete(path)).status_code == 200


async def test_a_page_of_submissions_goes_on_over_those_that_are_not_seen(mail: Mail) -> None:
    inbox = await mail.mailbox_id()
    order = {"to": [{"address": "bob@demo.test"}], "subject": "x", "text": "x", "undo_seconds": 600}
    client = await _limited(mail, mailbox_ids=(inbox,))
    mine = [(await client.post("/v1/me/send", json={**order, "save_to": None})).json()["id"] for _ in range(3)]
    for _ in range(5):
        assert (await (await _limited(mail)).post("/v1/me/send", json=order)).status_code == 202
    mine += [(await client.post("/v1/me/send", json={**order, "save_to": None})).json()["id"] for _ in range(2)]

    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(10):
        page = (await client.get("/v1/me/submissions", params={"limit": "2", **cursor})).json()
        seen += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == sorted(mine, key=mine.index, reverse=True)


async def test_a_token_of_one_mailbox_reads_the_quota_of_this_mailbox(mail: Mail) -> None:
    await mail.add(note("One"))
    await mail.add(note("Two"), "Archive")
    client = await _limited(mail, mailbox_ids=(await mail.mailbox_id(),))

    quota = (await client.get("/v1/me/quota")).json()

    assert quota["counted_by"] == "index"
    assert [one["used"] for one in quota["items"] if one["resource"] == "message"] == [1]


async def test_push_alone_gives_ids_and_types(mail: Mail) -> None:
    state = (await mail.get())["state"]
    id_ = await mail.add(note("Secret plans"))
    await mail.client.patch(f"/v1/me/messages/{id_}", json={"keywords": {"add": ["$secretword"]}})
    await mail.client.patch(f"/v1/me/messages/{id_}", json={"mailbox_id": await mail.mailbox_id("Archive")})
    await mail.client.post("/v1/me/mailboxes", json={"name": "Secretfolder"})
    client = await _limited(mail, Scope.PUSH)

    answer = await client.get("/v1/me/events", params={"after": state})

    assert answer.status_code == 200
    items = answer.json()["items"]
    created = next(one for one in items if one["type"] == "message.created")
    assert created["data"] == {
        "account_id": mail.account_id,
        "mailbox_id": await mail.mailbox_id(),
        "message": {"view": "ids", "id": id_},
    }
    assert {one["type"] for one in items} >= {"message.updated", "message.moved", "mailbox.created"}
    assert "ecret" not in answer.text
    assert (await client.get("/v1/me/changes", params={"since": state})).status_code == 403


async def test_sending_alone_quotes_and_forwards_nothing(mail: Mail) -> None:
    id_ = await mail.add(note("Secret plans"))
    client = await _limited(mail, Scope.MAIL_SEND)
    to = [{"address": "eve@example.com"}]

    for mode in ("reply", "forward"):
        refused = await client.post("/v1/me/send", json={"mode": mode, "to": to, "reply_to_message_id": id_})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
