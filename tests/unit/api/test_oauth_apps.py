from __future__ import annotations

from typing import Any

import pytest
from app.services.access.callers import Scope

from tests.gateway import Gateway, files_holding

GOOGLE = {"provider": "google", "client_id": "id.apps.example", "client_secret": "canary-secret"}
CUSTOM: dict[str, Any] = {
    "provider": "custom",
    "name": "Ours",
    "authorization_url": "https://93.184.216.34/authorize",
    "token_url": "https://93.184.216.34/token",
    "scopes": ["mail"],
    "client_id": "us",
    "client_secret": "canary-secret",
    "servers": {"imap": {"host": "93.184.216.34", "port": 993}},
}
INSIDE = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[fd00::1]", "0.0.0.0"]


async def made(gateway: Gateway, order: dict[str, Any]) -> dict[str, Any]:
    answer = await gateway.admin.post("/v1/oauth-apps", json=order)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    ("provider", "imap", "smtp", "pop3", "scope"),
    [
        ("google", "imap.gmail.com", "smtp.gmail.com", "pop.gmail.com", "https://mail.google.com/"),
        (
            "microsoft",
            "outlook.office365.com",
            "smtp.office365.com",
            "outlook.office365.com",
            "https://outlook.office.com/SMTP.Send",
        ),
        ("yahoo", "imap.mail.yahoo.com", "smtp.mail.yahoo.com", "pop.mail.yahoo.com", "mail-w"),
    ],
)
async def test_a_known_provider_needs_nothing_but_the_client(
    gateway: Gateway, provider: str, imap: str, smtp: str, pop3: str, scope: str
) -> None:
    app = await made(gateway, GOOGLE | {"provider": provider})

    assert {name: one["host"] for name, one in app["servers"].items()} == {"imap": imap, "smtp": smtp, "pop3": pop3}
    assert scope in app["scopes"]
    assert app["token_url"].startswith("https://")
    assert app["has_client_secret"]


async def test_a_known_provider_says_where_consents_are_revoked_if_it_can(gateway: Gateway) -> None:
    urls = [
        (await made(gateway, GOOGLE | {"provider": one}))["revocation_url"] for one in ("google", "yahoo", "microsoft")
    ]

    assert urls == ["https://oauth2.googleapis.com/revoke", "https://api.login.yahoo.com/oauth2/revoke", None]


async def test_microsoft_can_be_asked_for_one_s_own_tenant(gateway: Gateway) -> None:
    tenant = "6f1d3a52-0000-4000-8000-0123456789ab"
    common = await made(gateway, GOOGLE | {"provider": "microsoft"})
    own = await made(gateway, GOOGLE | {"provider": "microsoft", "tenant": tenant})

    assert "/common/" in common["token_url"]
    assert common["issuer"] is None
    assert f"/{tenant}/" in own["authorization_url"]
    assert own["issuer"] == f"https://login.microsoftonline.com/{tenant}/v2.0"
    for order in ({"tenant": "../x", "provider": "microsoft"}, {"tenant": "x", "provider": "google"}):
        refused = await gateway.admin.post("/v1/oauth-apps", json=GOOGLE | order)
        assert refused.json()["errors"][0]["pointer"] == "/tenant"


async def test_an_app_is_listed_changed_and_removed_and_never_shows_its_secret(gateway: Gateway) -> None:
    app = await made(gateway, CUSTOM)
    path = f"/v1/oauth-apps/{app['id']}"

    changed = await gateway.admin.patch(path, json={"name": "Theirs", "redirect_urls": ["https://app.test/"]})
    listed = await gateway.admin.get("/v1/oauth-apps")

    assert changed.json() == app | {"name": "Theirs", "redirect_urls": ["https://app.test/"]}
    assert listed.json()["items"] == [changed.json()] == [(await gateway.admin.get(path)).json()]
    assert "canary" not in listed.text
    assert files_holding(gateway.folder, b"canary") == []
    assert (await gateway.admin.delete(path)).status_code == 204
    assert (await gateway.admin.get(path)).json()["code"] == "oauth_app_not_found"


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "app.test/done", "https://app.test/a/../b", "https://app.test/#x"]
)
async def test_a_url_that_no_browser_is_sent_back_to_is_refused_when_it_is_given(gateway: Gateway, url: str) -> None:
    fine = ["https://app.test/", "com.example.app:/done"]

    refused = await gateway.admin.post("/v1/oauth-apps", json=GOOGLE | {"redirect_urls": [*fine, url]})

    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/redirect_urls/2"]


async def test_apps_come_page_by_page(gateway: Gateway) -> None:
    ids = [(await made(gateway, GOOGLE))["id"] for _ in range(3)]

    first = (await gateway.admin.get("/v1/oauth-apps?limit=2")).json()
    second = (await gateway.admin.get("/v1/oauth-apps", params={"cursor": first["next_cursor"]})).json()

    assert [one["id"] for one in [*first["items"], *second["items"]]] == ids


@pytest.mark.parametrize("member", ["authorization_url", "token_url", "revocation_url"])
@pytest.mark.parametrize("host", INSIDE)
async def test_an_authorization_server_inside_is_refused(gateway: Gateway, member: str, host: str) -> None:
    refused = await gateway.admin.post("/v1/oauth-apps", json=CUSTOM | {member: f"https://{host}/x"})

    assert refused.status_code == 422
    assert refused.json()["code"] == "address_not_allowed"
    assert refused.json()["errors"][0]["pointer"] == f"/{member}"


async def test_a_change_leads_inside_no_more_than_a_new_app(gateway: Gateway) -> None:
    app = await made(gateway, CUSTOM)

    order = {"token_url": "https://10.0.0.1/token", "client_secret": "other"}
    refused = await gateway.admin.patch(f"/v1/oauth-apps/{app['id']}", json=order)

    assert refused.json()["code"] == "address_not_allowed"


@pytest.mark.parametrize("url", ["http://93.184.216.34/x", "ftp://93.184.216.34/", "93.184.216.34", "https://u:p@a.b/"])
async def test_tokens_are_asked_for_over_https_alone(gateway: Gateway, url: str) -> None:
    refused = await gateway.admin.post("/v1/oauth-apps", json=CUSTOM | {"token_url": url})

    assert refused.status_code == 422


async def test_a_secret_goes_to_no_other_place_than_it_was_given_for(gateway: Gateway) -> None:
    path = f"/v1/oauth-apps/{(await made(gateway, CUSTOM))['id']}"

    moved = {"token_url": "https://93.184.216.35/token"}
    refused = await gateway.admin.patch(path, json=moved)
    taken = await gateway.admin.patch(path, json=moved | {"client_secret": "new"})

    assert refused.json()["errors"][0]["pointer"] == "/client_secret"
    assert taken.status_code == 200


@pytest.mark.parametrize(
    "order",
    [
        GOOGLE | {"token_url": "https://93.184.216.34/token"},
        GOOGLE | {"revocation_url": "https://93.184.216.34/revoke"},
        {**CUSTOM, "revocation_url": "http://93.184.216.34/revoke"},
        {**CUSTOM, "token_url": None},
        {**CUSTOM, "client_id": ""},
        {**CUSTOM, "scopes": ["two words"]},
        GOOGLE | {"provider": "other"},
        GOOGLE | {"surprise": 1},
    ],
)
async def test_an_app_that_makes_no_sense_is_refused(gateway: Gateway, order: dict[str, Any]) -> None:
    assert (await gateway.admin.post("/v1/oauth-apps", json=order)).status_code == 422


async def test_only_administrators_see_apps_and_open_sessions(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    token = await gateway.token(account_id, scopes=(Scope.MAIL_READ, Scope.SETTINGS))
    client = gateway.client(token)

    assert (await client.get("/v1/oauth-apps")).status_code == 403
    assert (await client.post("/v1/oauth-apps", json=GOOGLE)).status_code == 403
    assert (await client.post("/v1/connect/sessions", json={"redirect_url": "https://a.test"})).status_code == 403


# ---- accounts by consent


async def test_an_account_by_consent_uses_the_servers_of_its_provider(gateway: Gateway) -> None:
    app = await made(gateway, GOOGLE)
    order = {"kind": "imap", "email": "me@gmail.com"}
    consent = {"provider": "google", "refresh_token": "canary-refresh"}

    added = await gateway.admin.post("/v1/accounts?verify=false", json=order | {"oauth": consent})

    assert added.status_code == 201, added.text
    servers = (await gateway.services.accounts.servers(added.json()["id"]))[1]
    assert servers.imap is not None
    assert servers.smtp is not None
    assert (servers.imap.host, servers.imap.username) == ("imap.gmail.com", "me@gmail.com")
    assert servers.grant_id is not None
    assert files_holding(gateway.folder, b"canary") == []
    assert (await gateway.admin.delete(f"/v1/oauth-apps/{app['id']}")).status_code == 409
    assert (await gateway.admin.delete(f"/v1/accounts/{added.json()['id']}")).status_code == 204
    assert (await gateway.admin.delete(f"/v1/oauth-apps/{app['id']}")).status_code == 204


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"oauth": {"oauth_app_id": "app_unknown", "refresh_token": "x"}}, "/oauth/oauth_app_id"),
        ({"oauth": {"provider": "yahoo", "refresh_token": "x"}}, "/oauth/provider"),
        ({"imap": {"host": "93.184.216.34", "port": 993, "username": "me"}}, "/imap/password"),
        (
            {
                "oauth": {"provider": "google", "refresh_token": "x"},
                "imap": {"host": "93.184.216.34", "port": 993, "username": "me", "password": "x"},
            },
            "/oauth",
        ),
    ],
)
async def test_a_consent_that_nothing_uses_or_nobody_knows_is_refused(
    gateway: Gateway, change: dict[str, Any], pointer: str
) -> None:
    await made(gateway, GOOGLE)

    refused = await gateway.admin.post("/v1/accounts", json={"kind": "imap", "email": "me@gmail.com"} | change)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == pointer


async def test_tokens_go_to_no_other_server_than_they_were_given_for(gateway: Gateway) -> None:
    await made(gateway, CUSTOM)
    order = {"kind": "imap", "email": "me@a.test", "oauth": {"provider": "custom", "refresh_token": "x"}}
    added = (await gateway.admin.post("/v1/accounts", json=order)).json()
    path = f"/v1/accounts/{added['id']}"

    refused = await gateway.admin.patch(path, json={"imap": {"host": "93.184.216.35"}})
    renamed = await gateway.admin.patch(path, json={"imap": {"username": "other"}})

    assert refused.json()["errors"][0]["pointer"] == "/imap/password"
    assert renamed.status_code == 200
    servers = (await gateway.services.accounts.servers(added["id"]))[1]
    assert servers.imap is not None
    assert (servers.imap.username, servers.grant_id is not None) == ("other", True)


async def test_a_password_in_place_of_a_consent_ends_it(gateway: Gateway) -> None:
    app = await made(gateway, CUSTOM)
    order = {"kind": "imap", "email": "me@a.test", "oauth": {"provider": "custom", "refresh_token": "x"}}
    added = (await gateway.admin.post("/v1/accounts", json=order)).json()

    changed = await gateway.admin.patch(f"/v1/accounts/{added['id']}", json={"imap": {"password": "secret"}})

    assert changed.status_code == 200
    assert (await gateway.admin.delete(f"/v1/oauth-apps/{app['id']}")).status_code == 204
