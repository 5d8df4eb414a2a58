"""What every request meets: problems, origins, bounds, rights."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from app.api.openapi import http_routes
from app.api.planned import PLANNED
from app.api.routes import ROUTERS
from app.problems import PROBLEMS
from app.services.access.callers import ACCOUNT_SCOPES, Scope

from tests.gateway import Gateway, open_gateway

PAGE = "https://app.example.com"


async def test_every_kind_of_problem_has_a_page_that_says_when_why_and_what_to_do(gateway: Gateway) -> None:
    anyone = gateway.client(None)
    for code, row in PROBLEMS.items():
        page = (await anyone.get(f"/v1/problems/{code}")).json()
        shown = await anyone.get(f"/v1/problems/{code}", headers={"Accept": "text/html,*/*"})
        assert page == {
            "code": code,
            "title": row.title,
            "status": row.status,
            "retryable": row.is_retryable,
            "when": row.when,
            "why": row.why,
            "what_to_do": row.what_to_do,
            "fix": row.fix,
        }
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert "What to do" in shown.text
    assert (await anyone.get("/v1/problems/nothing")).status_code == 404


async def test_an_unknown_path_and_a_wrong_method_are_problems(gateway: Gateway) -> None:
    lost = await gateway.admin.get("/v1/nowhere")
    wrong = await gateway.admin.put("/v1/accounts")

    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"]
    assert {one.headers["content-type"] for one in (lost, wrong)} == {"application/problem+json"}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_request"),
        (b"\xff\xfe", "application/json", 400, "malformed_request"),
        (b"[" * 100_000, "application/json", 400, "malformed_request"),
        (b"", "application/json", 422, "invalid_request"),
        (b"[]", "application/json", 422, "invalid_request"),
        (b"null", "application/json", 422, "invalid_request"),
        (b"name=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"<a/>", "application/xml", 415, "unsupported_media_type"),
        (b'{"scopes": ["admin"], "name": "' + b"x" * 2_000_000 + b'"}', "application/json", 413, "too_large"),
    ],
)
async def test_a_body_that_cannot_be_taken_is_told_so(
    gateway: Gateway, body: bytes, content_type: str, status: int, code: str
) -> None:
    refused = await gateway.admin.post("/v1/tokens", content=body, headers={"Content-Type": content_type})

    assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_a_body_without_a_length_is_bounded_too(gateway: Gateway) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 65536

    refused = await gateway.admin.post("/v1/tokens", content=endless(), headers={"Content-Type": "application/json"})

    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


async def test_a_parameter_that_is_wrong_is_named(gateway: Gateway) -> None:
    for value in ("0", "501", "x", "1.5"):
        refused = await gateway.admin.get("/v1/accounts", params={"limit": value})
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "limit")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/accounts?limits=5"),
        ("POST", "/v1/search?limit=5"),
        ("GET", "/v1/accounts/{account_id}/changes?since=x&sinse=y"),
        ("DELETE", "/v1/accounts/{account_id}/messages/msg_x?permanant=true"),
        ("POST", "/v1/accounts/{account_id}/messages/search?exact=true"),
        ("GET", "/v1/accounts/{account_id}/threads/thr_x?view=full"),
        ("GET", "/v1/accounts/{account_id}/messages?colour=red"),
    ],
)
async def test_a_parameter_that_there_is_not_is_refused_and_named(gateway: Gateway, method: str, path: str) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    unknown = path.rpartition("?")[2].rpartition("&")[2].partition("=")[0]

    refused = await gateway.admin.request(method, path.format(account_id=account_id), json={})

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert [one["parameter"] for one in refused.json()["errors"]] == [unknown]
    assert f"Unknown parameter `{unknown}`." in refused.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body", "place", "text"),
    [
        ("GET", "/v1/accounts?limits=5", {}, {"parameter": "limits"}, "Did you mean `limit`?"),
        ("GET", "/v1/me/messages?mailbox=inbox", {}, {"parameter": "mailbox"}, "Did you mean `mailbox_id`?"),
        ("POST", "/v1/me/send", {"subjet": "x"}, {"pointer": "/subjet"}, "Did you mean `subject`?"),
        ("POST", "/v1/me/send", {"to": [{"adress": "x"}]}, {"pointer": "/to/0/adress"}, "Did you mean `address`?"),
        ("POST", "/v1/me/mailboxes", {"zzzz": 1}, {"pointer": "/zzzz"}, "Unknown field `zzzz`."),
        ("PATCH", "/v1/me/messages/msg_x", {"keyword": {}}, {"pointer": "/keyword"}, "Did you mean `keywords`?"),
    ],
)
async def test_an_unknown_name_is_refused_with_the_nearest_known_one(
    gateway: Gateway, method: str, path: str, body: dict[str, object], place: dict[str, str], text: str
) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    caller = gateway.client(await gateway.token(account_id, scopes=tuple(ACCOUNT_SCOPES)))

    refused = await caller.request(method, path, json=body)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    [fault] = [each for each in refused.json()["errors"] if place.items() <= each.items()]
    assert text in fault["detail"]


async def test_many_unknown_names_are_refused_without_looking_for_all_of_them(gateway: Gateway) -> None:
    surplus = {f"unknown_field_{number}": number for number in range(5_000)}

    refused = await gateway.admin.post("/v1/tokens", json={**surplus, "scopes": ["mail.read"]})

    assert (refused.status_code, len(refused.json()["errors"])) == (422, 20)


async def test_every_answer_has_a_request_id_and_every_problem_repeats_it(gateway: Gateway) -> None:
    anyone = gateway.client(None)
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
    answers = [
        await anyone.get("/v1"),
        await anyone.get("/v1/nowhere"),
        await anyone.get("/v1/accounts"),
        await anyone.get("/docs/start.js"),
        await anyone.options("/v1/accounts", headers=preflight),
        await gateway.admin.get("/v1/accounts"),
        await gateway.admin.put("/v1/accounts"),
        await gateway.admin.get("/v1/accounts", headers={"Request-Id": "mine"}),
    ]

    ids = [answer.headers["request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"req_[A-Za-z0-9_-]{20}", each) for each in ids)
    for answer, request_id in zip(answers, ids, strict=True):
        if answer.headers.get("content-type") == "application/problem+json":
            assert answer.json()["request_id"] == request_id


@pytest.mark.parametrize("client_id", ["", "x" * 65, "a b", "ä"])
async def test_a_client_id_that_is_not_valid_is_refused(gateway: Gateway, client_id: str) -> None:
    refused = await gateway.admin.get("/v1/accounts", headers={b"Client-Id": client_id.encode()})

    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "Client-Id")
    assert (await gateway.admin.get("/v1/accounts", headers={"Client-Id": "tab-1"})).status_code == 200


async def test_what_is_in_the_contract_and_not_built_is_501(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    client = gateway.client(await gateway.token(account_id))
    calls = [
        (method, re.sub(r"{[^}]*}", "x", path.replace("{account_id}", "me")))
        for path, methods in PLANNED.items()
        for method in methods.split()
    ]

    answers = {call: await client.request(*call) for call in calls}

    assert {call: answer.status_code for call, answer in answers.items() if answer.status_code != 501} == {}
    assert {answer.json()["code"] for (method, _), answer in answers.items() if method != "HEAD"} == {"not_implemented"}
    assert (await gateway.client(None).get("/v1/jobs")).status_code == 401


async def test_a_right_that_is_missing_is_told_before_a_parameter_is(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    reader = gateway.client(await gateway.token(account_id))

    assert (await reader.delete("/v1/me/messages/msg_x?permanant=true")).status_code == 403
    assert (await reader.get("/v1/accounts/acc_x/changes?sinse=x")).status_code == 404


async def test_a_cursor_of_another_list_is_refused(gateway: Gateway) -> None:
    for name in ("a", "b", "c"):
        await gateway.harness.add_account(f"{name}@demo.test")
    cursor = (await gateway.admin.get("/v1/accounts", params={"limit": 1})).json()["next_cursor"]

    for path, text in (
        ("/v1/tokens", cursor),
        ("/v1/accounts", cursor[:-1]),
        ("/v1/accounts", "x.y"),
        ("/v1/accounts", ""),
    ):
        refused = await gateway.admin.get(path, params={"cursor": text})
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "cursor")


async def test_a_fault_of_ours_says_nothing_of_itself(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("canary-secret")

    monkeypatch.setattr(type(gateway.services.accounts), "page", broken)
    with caplog.at_level(logging.DEBUG):
        failed = await gateway.admin.get("/v1/accounts")

    assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
    assert "canary" not in failed.text + caplog.text


async def test_a_preflight_is_answered_for_origins_of_the_install_and_of_tokens(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    ask = {"Origin": PAGE, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    anyone = gateway.client(None)
    await gateway.token(ann, origins=(PAGE,))

    allowed = await anyone.options("/v1/me/mailboxes", headers=ask)
    refused = await anyone.options("/v1/me/mailboxes", headers={**ask, "Origin": "https://evil.example"})

    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


async def test_a_token_works_from_its_own_pages_alone(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")
    client = gateway.client(await gateway.token(ann, origins=(PAGE,)))

    own = await client.get("/v1/me", headers={"Origin": PAGE})
    foreign = await client.get("/v1/me", headers={"Origin": "https://evil.example"})

    assert own.status_code == 200
    assert own.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in own.headers["vary"]
    assert foreign.status_code == 403
    assert "access-control-allow-origin" not in foreign.headers
    assert (await client.get("/v1/me")).status_code == 200


async def test_a_token_in_the_url_is_no_token(gateway: Gateway) -> None:
    secret = await gateway.token(await gateway.harness.add_account("ann@demo.test"))

    for name in ("token", "access_token", "authorization", "ticket"):
        assert (await gateway.client(None).get("/v1/me", params={name: secret})).status_code == 401


async def test_every_answer_forbids_sniffing_and_storing(gateway: Gateway) -> None:
    answer = await gateway.admin.get("/v1/accounts")

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_the_public_is_told_what_this_is_and_that_it_works(gateway: Gateway) -> None:
    anyone = gateway.client(None)

    assert (await anyone.get("/v1")).json()["name"] == "Postgate"
    assert (await anyone.get("/v1/health/live")).json() == {"status": "live"}
    assert (await anyone.get("/v1/health/ready")).json() == {"status": "ready"}
    gateway.services.draining.set()
    assert (await anyone.get("/v1/health/ready")).json()["code"] == "not_ready"


async def test_metrics_are_for_administrators(gateway: Gateway) -> None:
    ann = await gateway.harness.add_account("ann@demo.test")

    assert (await gateway.admin.get("/metrics")).text.startswith("# HELP")
    assert (await gateway.client(None).get("/metrics")).status_code == 401
    reader = gateway.client(await gateway.token(ann, scopes=list(Scope)[:-1]))
    assert (await reader.get("/metrics")).status_code == 403


async def cut_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> httpx2.Response:
    """The answer to a request that is cancelled while it waits."""
    waits = asyncio.Event()

    async def hang() -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(gateway.services.health, "check", hang)
    request = asyncio.create_task(gateway.admin.get("/v1/health/ready"))
    await waits.wait()
    request.cancel()
    return await request


async def test_a_request_that_the_end_of_the_process_cuts_off_may_be_sent_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.services.draining.set()

    answer = await cut_off(gateway, monkeypatch)

    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "not_ready", True)
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_request_that_is_cancelled_otherwise_has_no_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(asyncio.CancelledError):
        await cut_off(gateway, monkeypatch)


@pytest.mark.parametrize("path", sorted({route.path_format for route in http_routes(ROUTERS)}))
async def test_a_405_names_every_method_of_its_path(gateway: Gateway, path: str) -> None:
    methods = {method for route in http_routes(ROUTERS) if route.path_format == path for method in route.methods or ()}

    refused = await gateway.admin.request("PUT", path.replace("{", "x").replace("}", "x"))

    assert refused.status_code == 405
    assert set(refused.headers["Allow"].split(", ")) == methods


async def test_a_word_of_the_api_is_no_id(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    for path in ("/v1/connect/sessions", f"/v1/accounts/{account_id}/messages/search"):
        refused = await gateway.admin.get(path)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    assert (await gateway.admin.get(f"/v1/accounts/{account_id}/messages/searched")).status_code == 404


@pytest.mark.parametrize(
    ("public_url", "origin", "host", "status"),
    [
        (None, "http://evil.test", "evil.test", 403),
        ("https://mail.test/", "http://evil.test", "evil.test", 403),
        ("https://mail.test/", "https://mail.test", "mail.test", 200),
        ("https://mail.test:443", "https://mail.test", "10.0.0.1", 200),
        ("https://mail.test/", "http://mail.test", "mail.test", 403),
        (None, PAGE, "evil.test", 200),
    ],
)
async def test_a_host_that_was_rebound_makes_no_page_our_own(
    tmp_path: Path, public_url: str | None, origin: str, host: str, status: int
) -> None:
    async with open_gateway(tmp_path, public_url=public_url) as gateway:
        account_id = await gateway.harness.add_account("me@demo.test")
        client = gateway.client(await gateway.token(account_id, origins=(PAGE,)))

        answer = await client.get("/v1/me", headers={"Origin": origin, "Host": host})

    assert answer.status_code == status
