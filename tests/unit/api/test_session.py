from __future__ import annotations

import hashlib
from typing import Any

import orjson

from tests.gateway import Gateway, files_holding, without_request_id

KEY = {"Idempotency-Key": "k1"}


async def _sign_in(gateway: Gateway) -> dict[str, Any]:
    await gateway.harness.add_account("ann@demo.test", "right")
    answer = await gateway.client(None).post("/v1/session", json={"email": "ann@demo.test", "password": "right"})
    assert answer.status_code == 201
    session: dict[str, Any] = answer.json()
    return session


async def test_a_user_signs_in_with_the_mailbox_password(gateway: Gateway) -> None:
    session = await _sign_in(gateway)

    me = await gateway.client(session["access_token"]).get("/v1/me")

    assert me.json()["id"] == session["account_id"]
    assert session["expires_in"] == 900


async def test_an_unknown_user_and_a_wrong_password_look_alike(gateway: Gateway) -> None:
    await gateway.harness.add_account("ann@demo.test", "right")

    answers = [
        await gateway.client(None).post("/v1/session", json={"email": email, "password": "wrong"})
        for email in ("ann@demo.test", "nobody@demo.test")
    ]

    assert [one.status_code for one in answers] == [401, 401]
    assert len({without_request_id(answer) for answer in answers}) == 1


async def test_signing_in_with_a_remote_mailbox_is_not_offered_yet(gateway: Gateway) -> None:
    refused = await gateway.client(None).post("/v1/session", json={"email": "me@example.com", "password": "x"})

    assert (refused.status_code, refused.json()["code"]) == (501, "not_supported")


async def test_a_refresh_token_rotates(gateway: Gateway) -> None:
    session = await _sign_in(gateway)

    next_ = await gateway.client(None).post("/v1/session/refresh", json={"refresh_token": session["refresh_token"]})

    assert next_.status_code == 200
    assert next_.json()["refresh_token"] != session["refresh_token"]
    assert (await gateway.client(next_.json()["access_token"]).get("/v1/me")).status_code == 200


async def test_a_refresh_token_that_comes_twice_ends_the_whole_session(gateway: Gateway) -> None:
    session = await _sign_in(gateway)
    anyone = gateway.client(None)
    order = {"refresh_token": session["refresh_token"]}
    next_ = (await anyone.post("/v1/session/refresh", json=order)).json()

    assert (await anyone.post("/v1/session/refresh", json=order)).status_code == 401

    for token in (session["access_token"], next_["access_token"]):
        assert (await gateway.client(token).get("/v1/me")).status_code == 401
    stolen = {"refresh_token": next_["refresh_token"]}
    assert (await anyone.post("/v1/session/refresh", json=stolen)).status_code == 401


async def test_a_refresh_token_opens_nothing_itself(gateway: Gateway) -> None:
    session = await _sign_in(gateway)

    assert (await gateway.client(session["refresh_token"]).get("/v1/me")).status_code == 401
    access = {"refresh_token": session["access_token"]}
    assert (await gateway.client(None).post("/v1/session/refresh", json=access)).status_code == 401


async def test_signing_out_ends_the_session(gateway: Gateway) -> None:
    session = await _sign_in(gateway)
    client = gateway.client(session["access_token"])

    assert (await client.delete("/v1/session")).status_code == 204

    assert (await client.get("/v1/me")).status_code == 401
    order = {"refresh_token": session["refresh_token"]}
    assert (await gateway.client(None).post("/v1/session/refresh", json=order)).status_code == 401


async def test_a_token_of_no_session_cannot_sign_out(gateway: Gateway) -> None:
    assert (await gateway.admin.delete("/v1/session")).status_code == 404


# ---- repeated requests


async def test_a_sign_in_that_is_repeated_with_its_key_is_one_session(gateway: Gateway) -> None:
    await gateway.harness.add_account("ann@demo.test", "right")
    anyone, order = gateway.client(None), {"email": "ann@demo.test", "password": "right"}

    first = await anyone.post("/v1/session", json=order, headers=KEY)
    again = await anyone.post("/v1/session", json=order, headers=KEY)

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_a_key_opens_no_session_without_the_password(gateway: Gateway) -> None:
    await gateway.harness.add_account("ann@demo.test", "right")
    anyone = gateway.client(None)
    await anyone.post("/v1/session", json={"email": "ann@demo.test", "password": "right"}, headers=KEY)

    guess = await anyone.post("/v1/session", json={"email": "ann@demo.test", "password": "wrong"}, headers=KEY)
    plain = await anyone.post("/v1/session", json={"email": "ann@demo.test", "password": "wrong"})

    assert guess.status_code == 401
    assert without_request_id(guess) == without_request_id(plain)


async def test_a_refresh_whose_answer_was_lost_can_be_repeated(gateway: Gateway) -> None:
    session = await _sign_in(gateway)
    anyone, order = gateway.client(None), {"refresh_token": session["refresh_token"]}

    lost = await anyone.post("/v1/session/refresh", json=order, headers=KEY)
    again = await anyone.post("/v1/session/refresh", json=order, headers=KEY)

    assert (again.status_code, again.json()) == (200, lost.json())
    assert (await gateway.client(again.json()["access_token"]).get("/v1/me")).status_code == 200
    assert (await anyone.post("/v1/session/refresh", json=order)).status_code == 401  # by another it is a theft


async def test_a_refused_refresh_is_not_kept(gateway: Gateway) -> None:
    anyone, order = gateway.client(None), {"refresh_token": "pgs_unknown"}

    answers = [await anyone.post("/v1/session/refresh", json=order, headers=KEY) for _ in range(2)]

    assert [one.status_code for one in answers] == [401, 401]
    assert "Idempotency-Replayed" not in answers[1].headers


async def test_neither_kept_answers_nor_what_tells_payloads_apart_betray_a_secret(gateway: Gateway) -> None:
    await gateway.harness.add_account("ann@demo.test", "right")
    body = orjson.dumps({"email": "ann@demo.test", "password": "right"})
    headers = {**KEY, "Content-Type": "application/json"}

    session = (await gateway.client(None).post("/v1/session", content=body, headers=headers)).json()

    bare = hashlib.sha256(bytes(8) + len(body).to_bytes(8, "big") + body).hexdigest()
    for secret in (session["access_token"], session["refresh_token"], bare):
        assert files_holding(gateway.folder, secret.encode()) == []
