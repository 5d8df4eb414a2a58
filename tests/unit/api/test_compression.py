"""Which answers are compressed, and that their ETags stand for the same states."""

from __future__ import annotations

import gzip
from typing import Any

import httpx2
import pytest
from app.mail.types import AccountId
from app.services.access.callers import Scope

from tests.gateway import Gateway

GZIP = {"Accept-Encoding": "gzip"}
PLAIN = {"Accept-Encoding": "identity"}


async def message_of(gateway: Gateway) -> tuple[AccountId, str]:
    """An account, and the path of a message whose object is longer than 1 KB."""
    account_id = await gateway.harness.add_account("me@demo.test")
    inbox = await gateway.harness.mailbox(account_id)
    to = ", ".join(f"Somebody Else <somebody{number}@example.com>" for number in range(40))
    content = await gateway.harness.store.keep(f"From: a@b.test\r\nTo: {to}\r\nSubject: Hi\r\n\r\nHi\r\n".encode())
    applied = await gateway.harness.store.add(account_id, inbox.id, [(content, frozenset(), None)])
    return account_id, f"/v1/accounts/{account_id}/messages/{next(iter(applied.message_ids.values()))}"


async def raw_get(client: httpx2.AsyncClient, path: str, headers: dict[str, str]) -> tuple[httpx2.Response, bytes]:
    """The answer, and its body as it was sent."""
    async with client.stream("GET", path, headers=headers) as answer:
        return answer, b"".join([piece async for piece in answer.aiter_raw()])


async def test_json_is_compressed_where_it_is_asked_for(gateway: Gateway) -> None:
    _, path = await message_of(gateway)
    plain, text = await raw_get(gateway.admin, path, PLAIN)
    packed, data = await raw_get(gateway.admin, path, GZIP)

    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(data) == text
    assert int(packed.headers["content-length"]) == len(data) < len(text)
    assert "content-encoding" not in plain.headers
    assert "Accept-Encoding" in plain.headers["vary"]
    assert "Accept-Encoding" in packed.headers["vary"]
    assert packed.headers["etag"] == plain.headers["etag"][:-1] + '-gzip"'


@pytest.mark.parametrize(
    ("accepted", "is_encoded"),
    [
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("br", False),
        ("br, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("", False),
    ],
)
async def test_the_weight_of_gzip_counts(gateway: Gateway, accepted: str, is_encoded: bool) -> None:
    _, path = await message_of(gateway)

    answer, _ = await raw_get(gateway.admin, path, {"Accept-Encoding": accepted})

    assert ("content-encoding" in answer.headers) == is_encoded


async def test_both_etags_stand_for_the_same_state(gateway: Gateway) -> None:
    _, path = await message_of(gateway)
    etag = (await gateway.admin.get(path, headers=PLAIN)).headers["etag"]
    encoded = (await gateway.admin.get(path, headers=GZIP)).headers["etag"]

    for tag in (etag, encoded):
        for accepted in (GZIP, PLAIN):
            known = await gateway.admin.get(path, headers={**accepted, "If-None-Match": tag})
            assert (known.status_code, known.headers["etag"]) == (304, tag)
    changed = await gateway.admin.patch(path, json={"keywords": {"add": ["$seen"]}}, headers={"If-Match": encoded})
    assert changed.status_code == 200
    late = await gateway.admin.patch(path, json={"keywords": {"remove": ["$seen"]}}, headers={"If-Match": encoded})
    assert late.status_code == 412


async def test_small_answers_downloads_and_ranges_are_as_they_are(gateway: Gateway) -> None:
    _, path = await message_of(gateway)
    answers = [
        await raw_get(gateway.admin, "/v1/health/live", GZIP),
        await raw_get(gateway.admin, f"{path}/raw", GZIP),
        await raw_get(gateway.admin, path, {**GZIP, "Range": "bytes=0-10"}),
    ]

    assert all("content-encoding" not in answer.headers for answer, _ in answers)


async def test_answers_with_secrets_are_never_compressed(gateway: Gateway) -> None:
    account_id, _ = await message_of(gateway)
    name = "x" * 2_000
    token: dict[str, Any] = {"scopes": ["push"], "account_ids": [account_id], "name": name[:200]}
    pusher = gateway.client(await gateway.token(account_id, scopes=[Scope.PUSH]))
    answers = [
        await gateway.admin.post("/v1/tokens", json=token, headers=GZIP),
        await gateway.admin.get("/v1/tokens", headers=GZIP),
        await pusher.post("/v1/stream/tickets", json={}, headers=GZIP),
        await gateway.client(None).post("/v1/session", json={"email": name, "password": name}, headers=GZIP),
    ]

    assert all("content-encoding" not in answer.headers for answer in answers)
    assert all("accept-encoding" not in answer.headers.get("vary", "").lower() for answer in answers)
