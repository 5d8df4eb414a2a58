"""Keywords in use."""

from __future__ import annotations

from app.mail.types import FLAGGED, SEEN

from tests.unit.api.mail import Mail, note


async def test_each_keyword_comes_with_how_many_messages_have_it(mail: Mail) -> None:
    await mail.add(note("one"), flags=frozenset({SEEN, "Work"}))
    await mail.add(note("two"), flags=frozenset({FLAGGED, "work"}))
    await mail.add(note("three"))

    answer = await mail.client.get("/v1/me/keywords")

    assert answer.json()["items"] == [
        {"keyword": "$flagged", "total": 1, "unread": 1},
        {"keyword": "$seen", "total": 1, "unread": 0},
        {"keyword": "work", "total": 2, "unread": 1},
    ]
    again = await mail.client.get("/v1/me/keywords", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


async def test_keywords_come_in_pages_too(mail: Mail) -> None:
    await mail.add(note("one"), flags=frozenset({"a", "b", "c"}))

    first = (await mail.client.get("/v1/me/keywords", params={"limit": 2})).json()
    second = (await mail.client.get("/v1/me/keywords", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [use["keyword"] for use in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next_cursor"] is None


async def test_a_limited_token_counts_what_it_sees(mail: Mail) -> None:
    await mail.add(note("one"), flags=frozenset({"inside"}), path="Archive")
    await mail.add(note("two"), flags=frozenset({"outside"}))
    secret = await mail.gateway.token(mail.account_id, mailbox_ids=(await mail.mailbox_id("Archive"),))

    answer = await mail.gateway.client(secret).get("/v1/me/keywords")

    assert [use["keyword"] for use in answer.json()["items"]] == ["inside"]
