"""Signing in with a mailbox of another mail server, where the install allows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from app.errors import LoginRefused
from app.mail.types import ServerLogin
from app.services.access import throttle

from tests.gateway import Gateway, open_gateway

EMAIL, PASSWORD = "ann@icloud.com", "canary-right"


@pytest.fixture
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """Its mail servers take one password; every name resolves to a public address."""

    async def resolve(host: str) -> list[str]:
        return ["93.184.216.34"]

    monkeypatch.setattr("tests.gateway._no_names", resolve)
    monkeypatch.setattr(throttle, "FIRST_DELAY_SECONDS", 0.0)
    async with open_gateway(tmp_path, session_remote=True, autoconfig_ispdb_url="") as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def mail_servers(monkeypatch: pytest.MonkeyPatch, gateway: Gateway) -> dict[str, Any]:
    """`right` is the password that they take."""
    state: dict[str, Any] = {"right": PASSWORD, "asked": []}

    async def verify(given: Mapping[str, ServerLogin]) -> None:
        state["asked"].append({name: (one.host, one.username) for name, one in given.items()})
        if any(one.password != state["right"] for one in given.values()):
            raise LoginRefused

    monkeypatch.setattr(gateway.backends, "verify", verify)
    return state


async def sign_in(gateway: Gateway, password: str = PASSWORD, email: str = EMAIL) -> httpx2.Response:
    return await gateway.client(None).post("/v1/session", json={"email": email, "password": password})


async def test_the_first_sign_in_adds_the_account_and_the_next_finds_it(
    gateway: Gateway, mail_servers: dict[str, Any]
) -> None:
    first, second = await sign_in(gateway), await sign_in(gateway, email=EMAIL.upper())

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["account_id"] == second.json()["account_id"]
    assert mail_servers["asked"][0] == {
        "imap": ("imap.mail.me.com", "ann"),
        "smtp": ("smtp.mail.me.com", EMAIL),
    }
    me = await gateway.client(first.json()["access_token"]).get("/v1/me")
    assert (me.json()["email"], me.json()["kind"]) == (EMAIL, "imap")
    assert len((await gateway.admin.get("/v1/accounts")).json()["items"]) == 1


async def test_a_wrong_password_adds_nothing_and_opens_nothing(gateway: Gateway) -> None:
    assert (await sign_in(gateway, "wrong")).status_code == 401
    assert (await gateway.admin.get("/v1/accounts")).json()["items"] == []

    await sign_in(gateway)
    assert (await sign_in(gateway, "wrong")).status_code == 401


async def test_a_password_that_was_changed_at_the_server_is_kept(
    gateway: Gateway, mail_servers: dict[str, Any]
) -> None:
    account_id = (await sign_in(gateway)).json()["account_id"]
    mail_servers["right"] = "new"

    assert (await sign_in(gateway)).status_code == 401
    assert (await sign_in(gateway, "new")).json()["account_id"] == account_id
    _, servers = await gateway.services.accounts.servers(account_id)
    assert {one.password for one in servers.logins.values()} == {"new"}


async def test_guessing_passwords_stops_being_passed_on(gateway: Gateway, mail_servers: dict[str, Any]) -> None:
    for _ in range(25):
        refused = await sign_in(gateway, "wrong")

    assert refused.status_code == 429
    asked = len(mail_servers["asked"])
    assert (await sign_in(gateway, "wrong")).status_code == 429
    assert len(mail_servers["asked"]) == asked


async def test_a_provider_that_takes_no_password_is_not_supported(gateway: Gateway) -> None:
    refused = await sign_in(gateway, email="ann@outlook.com")

    assert (refused.status_code, refused.json()["code"]) == (501, "not_supported")
