"""The consent of a deleted account, revoked at a real authorization server (RFC 7009)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from app.security.vault import Vault

from tests.gateway import Gateway, open_gateway
from tests.oauth import app_order
from tests.servers.authorization_server import AuthorizationServer

USER = "ann@mail.test"
SERVERS = {"imap": {"host": "127.0.0.1", "port": 993}, "pop3": {"host": "127.0.0.1", "port": 995}}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, net_allow="127.0.0.0/8") as gateway:
        yield gateway


async def add_app(gateway: Gateway, authority: AuthorizationServer, **changes: Any) -> str:
    made = await gateway.admin.post("/v1/oauth-apps", json=app_order(authority, **SERVERS) | changes)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def add_account(gateway: Gateway, app_id: str, refresh_token: str, kind: str = "imap") -> str:
    """The path of a new account."""
    order = {"kind": kind, "email": USER, "oauth": {"oauth_app_id": app_id, "refresh_token": refresh_token}}
    made = await gateway.admin.post("/v1/accounts", json=order)
    assert made.status_code == 201, made.text
    return str(made.headers["Location"])


async def delete(gateway: Gateway, path: str, **parameters: str) -> None:
    async with asyncio.timeout(10):
        assert (await gateway.admin.delete(path, params=parameters)).status_code == 204
    assert (await gateway.admin.get(path)).status_code == 404


async def test_the_consent_of_a_deleted_account_is_revoked(
    gateway: Gateway, authorization_server: AuthorizationServer
) -> None:
    app_id = await add_app(gateway, authorization_server)
    path = await add_account(gateway, app_id, authorization_server.consent(USER))

    await delete(gateway, path)
    await gateway.services.grants.close()

    assert not authorization_server.is_in_force(USER)


async def test_deleting_does_not_wait_for_the_authorization_server(
    gateway: Gateway, authorization_server: AuthorizationServer
) -> None:
    app_id = await add_app(gateway, authorization_server)
    path = await add_account(gateway, app_id, authorization_server.consent(USER))
    authorization_server.takes_revocations.clear()

    await delete(gateway, path)
    assert (await gateway.admin.delete(f"/v1/oauth-apps/{app_id}")).status_code == 204
    assert authorization_server.is_in_force(USER)

    authorization_server.takes_revocations.set()
    await gateway.services.grants.close()
    assert not authorization_server.is_in_force(USER)  # although the app went meanwhile


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/revoke", None])
async def test_deleting_does_not_fail_where_nothing_can_be_revoked(
    gateway: Gateway, authorization_server: AuthorizationServer, url: str | None
) -> None:
    app_id = await add_app(gateway, authorization_server, revocation_url=url)
    path = await add_account(gateway, app_id, authorization_server.consent(USER))

    await delete(gateway, path)
    await gateway.services.grants.close()

    assert authorization_server.asked["revoke"] == 0


async def test_deleting_does_not_fail_with_a_server_that_is_down(
    gateway: Gateway, authorization_server: AuthorizationServer
) -> None:
    app_id = await add_app(gateway, authorization_server)
    path = await add_account(gateway, app_id, authorization_server.consent(USER))
    authorization_server.is_down = True

    await delete(gateway, path)
    await gateway.services.grants.close()

    assert authorization_server.asked["revoke"] == 1


async def test_deleting_does_not_fail_where_the_master_key_was_lost(
    gateway: Gateway, authorization_server: AuthorizationServer
) -> None:
    app_id = await add_app(gateway, authorization_server)
    path = await add_account(gateway, app_id, authorization_server.consent(USER))
    gateway.services.grants._vault = gateway.services.oauth_apps._vault = Vault([b"another key of 32 bytes in all !"])

    await delete(gateway, path)
    await gateway.services.grants.close()

    assert authorization_server.is_in_force(USER)


async def test_a_consent_can_outlive_its_account(gateway: Gateway, authorization_server: AuthorizationServer) -> None:
    app_id = await add_app(gateway, authorization_server)
    path = await add_account(gateway, app_id, authorization_server.consent(USER))

    await delete(gateway, path, revoke="false")
    await gateway.services.grants.close()

    assert authorization_server.is_in_force(USER)


async def test_a_consent_stays_in_force_while_another_account_of_that_person_needs_the_app(
    gateway: Gateway, authorization_server: AuthorizationServer
) -> None:
    app_id = await add_app(gateway, authorization_server)
    consent = authorization_server.consent(USER)
    by_imap, by_pop3 = [await add_account(gateway, app_id, consent, kind) for kind in ("imap", "pop3")]

    await delete(gateway, by_imap)
    await gateway.services.grants.close()
    assert authorization_server.is_in_force(USER)

    await delete(gateway, by_pop3)
    await gateway.services.grants.close()
    assert not authorization_server.is_in_force(USER)


async def test_tokens_that_accounts_have_are_never_sent_to_another_host_to_be_revoked(
    gateway: Gateway, authorization_server: AuthorizationServer
) -> None:
    app_id = await add_app(gateway, authorization_server)
    await add_account(gateway, app_id, authorization_server.consent(USER))

    async def change(url: str) -> int:
        order = {"revocation_url": url, "client_secret": "new"}
        return (await gateway.admin.patch(f"/v1/oauth-apps/{app_id}", json=order)).status_code

    assert await change("http://127.0.0.1:1/revoke") == 409
    assert await change(f"{authorization_server.url}/oauth/revoke") == 200
