"""What pages of other origins may call, read and send (Fetch §3.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from app.services.access import tokens
from app.services.access.callers import Caller, Scope, TokenKind

from tests.gateway import Gateway, open_gateway

PAGE, OTHER, STRANGE = "https://app.example.com", "https://other.example.com", "https://evil.example"
ADMIN = Caller(token_id="tok_admin", kind=TokenKind.SERVER, scopes=frozenset(Scope))  # type: ignore[arg-type]
EXPOSED = (
    "ETag Link Location Request-Id Retry-After RateLimit RateLimit-Policy Content-Disposition Content-Range "
    "Accept-Ranges Idempotency-Replayed WWW-Authenticate Tus-Resumable Tus-Version Tus-Extension Tus-Max-Size "
    "Upload-Offset Upload-Length Upload-Metadata Upload-Expires Mcp-Session-Id"
)
TAKEN = (
    "authorization content-type accept client-id idempotency-key if-match if-none-match if-range range last-event-id "
    "tus-resumable upload-length upload-offset upload-metadata upload-checksum mcp-session-id"
)


async def _preflight(gateway: Gateway, path: str, origin: str = PAGE, method: str = "GET") -> httpx2.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    return await gateway.client(None).options(path, headers=headers)


async def _token(gateway: Gateway, *allowed: str, **limits: Any) -> str:
    account_id = await gateway.harness.add_account(
        f"{len(await gateway.services.accounts.visible_ids(ADMIN))}@demo.test"
    )
    return await gateway.token(account_id, scopes=(Scope.MAIL_READ, Scope.PUSH), origins=allowed, **limits)


def _items(answer: httpx2.Response, name: str) -> set[str]:
    return {item.strip().lower() for item in answer.headers[name].split(",")}


async def test_a_preflight_names_all_that_a_page_may_send_and_lasts_two_hours(gateway: Gateway) -> None:
    await _token(gateway, PAGE)

    answer = await _preflight(gateway, "/v1/me/messages/x", method="PUT")

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert {"get", "head", "post", "put", "patch", "delete"} == _items(answer, "access-control-allow-methods")
    assert set(TAKEN.split()) <= _items(answer, "access-control-allow-headers")
    assert answer.headers["access-control-max-age"] == "7200"
    assert "access-control-allow-credentials" not in answer.headers
    assert "origin" in _items(answer, "vary")


async def test_a_page_reads_the_headers_of_the_contract_and_no_answer_allows_cookies(gateway: Gateway) -> None:
    client = gateway.client(await _token(gateway, PAGE), Origin=PAGE)

    for answer in (await client.get("/v1/me"), await client.get("/v1/me/messages/x"), await client.get("/v1/nowhere")):
        assert {name.lower() for name in EXPOSED.split()} <= _items(answer, "access-control-expose-headers")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [None, PAGE, STRANGE, "null"])
async def test_caches_keep_the_answers_to_different_origins_apart(gateway: Gateway, origin: str | None) -> None:
    client = gateway.client(await _token(gateway, PAGE), **({} if origin is None else {"Origin": origin}))

    assert _items(await client.get("/v1/me"), "vary") == {"origin", "accept-encoding"}
    assert "origin" in _items(await client.get("/v1/problems/not_found"), "vary")


async def test_a_page_can_read_that_its_token_has_expired(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    client = gateway.client(await _token(gateway, PAGE), Origin=PAGE)
    monkeypatch.setattr(tokens, "has_ended", lambda _: True)

    refused = await client.get("/v1/me")

    assert (refused.status_code, refused.json()["code"]) == (401, "token_expired")
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert "www-authenticate" in _items(refused, "access-control-expose-headers")


async def test_a_page_can_read_that_its_token_was_revoked(gateway: Gateway) -> None:
    secret = await _token(gateway, PAGE)
    client = gateway.client(secret, Origin=PAGE)
    caller = await gateway.services.tokens.authenticate(secret, None)
    await gateway.services.tokens.revoke(caller.token_id, ADMIN)

    preflight, refused = await _preflight(gateway, "/v1/me"), await client.get("/v1/me")

    assert preflight.status_code == 204
    assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
    assert refused.headers["access-control-allow-origin"] == PAGE


async def test_a_page_uses_tokens_that_are_for_it_alone(gateway: Gateway) -> None:
    await _token(gateway, PAGE)
    client = gateway.client(await _token(gateway, OTHER))

    refused = await client.get("/v1/me", headers={"Origin": PAGE})

    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert (await client.get("/v1/me", headers={"Origin": OTHER})).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [STRANGE, "null", "", "https://app.example.com.evil.example", "http://app.example.com", PAGE + ":8443", PAGE + "/"],
)
async def test_a_page_that_no_token_is_for_reads_nothing(gateway: Gateway, origin: str) -> None:
    secret = await _token(gateway, PAGE)

    preflight = await _preflight(gateway, "/v1/me", origin)
    answers = [await gateway.client(each).get("/v1/me", headers={"Origin": origin}) for each in (secret, None)]

    assert (preflight.status_code, [answer.status_code for answer in answers]) == (403, [403, 401])
    for answer in (preflight, *answers):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/session"), ("POST", "/v1/session/refresh")])
async def test_pages_of_the_installs_list_alone_sign_in(tmp_path: Path, method: str, path: str) -> None:
    body = {"email": "ann@demo.test", "password": "wrong"} if path == "/v1/session" else {"refresh_token": "x"}
    async with open_gateway(tmp_path, cors_origins=(OTHER,)) as gateway:
        await _token(gateway, PAGE)
        anyone = gateway.client(None)

        allowed = await _preflight(gateway, path, OTHER, method)
        refused = await _preflight(gateway, path, PAGE, method)
        answers = {
            origin: await anyone.request(method, path, json=body, headers={"Origin": origin})
            for origin in (OTHER, PAGE, STRANGE)
        }

    assert (allowed.status_code, refused.status_code) == (204, 403)
    assert {origin: answer.status_code for origin, answer in answers.items()} == {OTHER: 401, PAGE: 403, STRANGE: 403}
    readable = {origin for origin, answer in answers.items() if "access-control-allow-origin" in answer.headers}
    assert readable == {OTHER}


async def _ticket(client: httpx2.AsyncClient) -> str:
    made = await client.post("/v1/stream/tickets", json={})
    assert made.status_code == 201
    ticket: str = made.json()["ticket"]
    return ticket


async def test_a_ticket_opens_the_events_of_an_account_once_without_a_header(gateway: Gateway) -> None:
    anyone, ticket = gateway.client(None), await _ticket(gateway.client(await _token(gateway, PAGE)))

    first, second = [await anyone.get("/v1/me/events", params={"ticket": ticket}) for _ in range(2)]

    assert (first.status_code, first.json()["has_more"]) == (200, False)
    assert (second.status_code, second.json()["code"]) == (401, "not_authenticated")


async def test_a_ticket_opens_events_with_the_rights_and_for_the_pages_of_its_token(gateway: Gateway) -> None:
    client = gateway.client(await _token(gateway, PAGE))
    other = await gateway.harness.add_account("other@demo.test")
    anyone = gateway.client(None)

    elsewhere = await anyone.get(f"/v1/accounts/{other}/events", params={"ticket": await _ticket(client)})
    foreign = await anyone.get("/v1/me/events", params={"ticket": await _ticket(client)}, headers={"Origin": STRANGE})
    own = await anyone.get("/v1/me/events", params={"ticket": await _ticket(client)}, headers={"Origin": PAGE})

    assert (elsewhere.status_code, foreign.status_code, own.status_code) == (404, 403, 200)
    assert own.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("path", ["/v1/me", "/v1/me/messages", "/v1/me/changes"])
async def test_a_ticket_opens_nothing_but_events(gateway: Gateway, path: str) -> None:
    ticket = await _ticket(gateway.client(await _token(gateway, PAGE)))

    refused = await gateway.client(None).get(path, params={"ticket": ticket})

    assert (refused.status_code, refused.json()["code"]) == (401, "token_missing")


@pytest.mark.parametrize("ticket", ["", "x", "pgs_" + "A" * 43, "pgs_" + "A" * 10_000])
async def test_what_is_no_ticket_opens_no_events(gateway: Gateway, ticket: str) -> None:
    refused = await gateway.client(None).get("/v1/accounts/acc_x/events", params={"ticket": ticket})

    assert refused.status_code == 401
