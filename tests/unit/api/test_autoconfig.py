from __future__ import annotations

from tests.gateway import Gateway


async def test_a_server_key_finds_the_servers_of_an_address(gateway: Gateway) -> None:
    answer = await gateway.admin.get("/v1/autoconfig", params={"email": "ann@icloud.com"})

    assert answer.status_code == 200
    found = answer.json()
    assert found["imap"] == [
        {"host": "imap.mail.me.com", "port": 993, "security": "tls", "username": "ann", "auth": ["password"]}
    ]
    assert found["smtp"][0]["username"] == "ann@icloud.com"
    assert (found["provider"], found["source"], found["oauth"], found["pop3"]) == ("icloud", "builtin", None, [])


async def test_what_is_no_address_names_the_parameter(gateway: Gateway) -> None:
    for email in ("nobody", "a@b@c.test", "ann@x.test\r\nX: y"):
        refused = await gateway.admin.get("/v1/autoconfig", params={"email": email})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["parameter"] == "email"


async def test_a_users_token_finds_nothing(gateway: Gateway) -> None:
    client = gateway.client(await gateway.token(await gateway.harness.add_account("ann@demo.test")))

    assert (await client.get("/v1/autoconfig", params={"email": "a@b.test"})).status_code == 403
    assert (await gateway.client(None).get("/v1/autoconfig", params={"email": "a@b.test"})).status_code == 401
