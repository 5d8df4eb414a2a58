from __future__ import annotations

from tests.gateway import Gateway

MAIL = b"Subject: Hello\r\n\r\nHello\r\n"


async def test_an_embedded_account_tells_what_it_holds_and_has_no_limit(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    inbox = await gateway.harness.mailbox(account_id)
    client = gateway.client(await gateway.token(account_id))
    for count in (0, 1, 2):
        answer = await client.get("/v1/me/quota")

        assert answer.status_code == 200
        assert answer.json() == {
            "counted_by": "index",
            "items": [
                {"root": "", "resource": "storage", "used": count * len(MAIL), "limit": None},
                {"root": "", "resource": "message", "used": count, "limit": None},
            ],
        }
        content = await gateway.harness.store.keep(MAIL)
        await gateway.harness.store.add(account_id, inbox.id, [(content, frozenset(), None)])
