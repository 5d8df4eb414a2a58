"""One search over several accounts, and where terms stand in what was found."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from app.backends.local import LocalBackend
from app.errors import Unreachable
from app.mail.types import AccountId, Mailbox
from app.mailstore.texts import TextIndex
from app.services.access.callers import Scope
from app.services.reading import searching
from app.workers.text_index_quota import TextLimits
from app.workers.text_indexer import TextIndexer, TextReader

from tests.gateway import Gateway
from tests.unit.api.mail import Mail, multipart, note, open_mail


async def fill(gateway: Gateway) -> None:
    harness, text_index = gateway.harness, TextIndex(gateway.harness.database)
    reader = TextReader(harness.reader, text_index, TextLimits(64 * 1024, 1024 * 1024))
    await TextIndexer(harness.index, harness.reader, text_index, gateway.backends, reader).fill()


async def search(gateway: Gateway, secret: str, expected: int = 200, **order: Any) -> Any:
    answer = await gateway.client(secret).post("/v1/search", json=order)
    assert answer.status_code == expected, answer.text
    return answer.json()


@pytest.fixture
async def mails(gateway: Gateway) -> list[Mail]:
    """Three accounts with five messages each, received in turn."""
    mails = [await open_mail(gateway, f"user{number}@demo.test") for number in range(3)]
    for number in range(15):
        await mails[number % 3].add(note(f"Note {number}", f"needle {number}"), received_at_ms=1_000 * number)
    return mails


class Deaf(LocalBackend):
    """An origin that never answers, or refuses to."""

    error: Exception | None = None

    async def search(
        self, mailbox: Mailbox, scope: str, value: str, uids: Collection[int] | None = None
    ) -> Collection[int]:
        if self.error is not None:
            raise self.error
        await asyncio.sleep(3600)
        return []


def deafen(gateway: Gateway, account_id: AccountId, error: Exception | None = None) -> None:
    harness = gateway.harness
    backend = Deaf(account_id, harness.store, harness.reader, harness.database, harness.bus)
    backend.error = error
    gateway.backends.given[account_id] = backend


async def test_a_search_over_all_accounts_of_a_token_pages_through_one_order(
    gateway: Gateway, mails: list[Mail]
) -> None:
    secret = await gateway.token(*(one.account_id for one in mails))
    seen: list[str] = []
    cursor = None
    while True:
        page = await search(gateway, secret, filter={"text": "needle"}, limit=4, cursor=cursor)
        seen += [one["subject"] for one in page["items"]]
        assert {one["account_id"] for one in page["accounts"]} == {one.account_id for one in mails}
        assert all(one["is_complete"] for one in page["accounts"])
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == [f"Note {number}" for number in range(14, -1, -1)]


async def test_each_item_and_each_account_says_where_it_stands(gateway: Gateway, mails: list[Mail]) -> None:
    await fill(gateway)
    secret = await gateway.token(*(one.account_id for one in mails))
    page = await search(gateway, secret, filter={"body": "needle 7"}, account_ids=[mails[1].account_id])

    (item,), (account,) = page["items"], page["accounts"]
    assert (item["subject"], item["account_id"]) == ("Note 7", mails[1].account_id)
    assert account["account_id"] == mails[1].account_id
    assert account["sync"]["mode"] == "embedded"
    assert account["indexed"] == {"messages": 5, "of": 5}
    changes = await mails[1].client.get("/v1/me/changes", params={"since": account["state"]})
    assert changes.status_code == 200


async def test_a_search_sees_no_account_and_no_mailbox_that_the_token_does_not(
    gateway: Gateway, mails: list[Mail]
) -> None:
    archive = await mails[0].mailbox_id("Archive")
    await mails[0].add(note("Archived", "needle"), "Archive")
    narrow = await gateway.token(mails[0].account_id, mailbox_ids=[archive])

    assert [one["subject"] for one in (await search(gateway, narrow, filter={"text": "needle"}))["items"]] == [
        "Archived"
    ]
    assert (await search(gateway, narrow, 404, account_ids=[mails[1].account_id]))["code"] == "account_not_found"
    sender = await gateway.token(mails[0].account_id, scopes=[Scope.MAIL_SEND])
    assert (await search(gateway, sender, 403))["code"] == "not_permitted"


async def test_what_the_index_covers_is_not_told_to_one_who_sees_only_some_mailboxes(
    gateway: Gateway, mails: list[Mail]
) -> None:
    await fill(gateway)
    narrow = await gateway.token(mails[0].account_id, mailbox_ids=[await mails[0].mailbox_id("Archive")])

    (account,) = (await search(gateway, narrow, filter={"text": "needle"}))["accounts"]
    one = await gateway.client(narrow).post("/v1/me/messages/search", json={"filter": {"text": "needle"}})

    assert account["indexed"] is None
    assert one.json()["indexed"] is None


async def test_a_search_counts_in_all_accounts_what_its_token_sees(gateway: Gateway, mails: list[Mail]) -> None:
    everything = gateway.client(await gateway.token(*(one.account_id for one in mails)))
    order = {"filter": {"subject": "note"}, "limit": 2}
    counted = (await everything.post("/v1/search?count=exact", json=order)).json()
    archive = await mails[0].mailbox_id("Archive")
    await mails[0].add(note("Note of Archive"), "Archive")
    narrow = gateway.client(await gateway.token(mails[0].account_id, mailbox_ids=[archive]))

    assert (counted["total"], len(counted["items"])) == (15, 2)
    assert (await narrow.post("/v1/search?count=estimate", json=order)).json()["total"] == 1
    assert (await everything.post("/v1/search", json=order)).json()["total"] is None


async def test_a_slow_account_holds_up_no_other(
    gateway: Gateway, mails: list[Mail], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(gateway)
    monkeypatch.setattr(searching, "ACCOUNT_SECONDS", 0.4)
    deafen(gateway, mails[0].account_id)
    deafen(gateway, mails[1].account_id, Unreachable("gone"))
    for one in mails[:2]:
        await one.add(note("New", "needle fresh"))  # not in the index yet: its origin would have to be asked
    secret = await gateway.token(*(one.account_id for one in mails))

    async with asyncio.timeout(5):
        page = await search(gateway, secret, filter={"text": "needle"}, limit=50)

    complete = {one["account_id"]: one["is_complete"] for one in page["accounts"]}
    assert complete == {mails[0].account_id: False, mails[1].account_id: False, mails[2].account_id: True}
    assert len(page["items"]) == 15  # what the index knows of the others is told all the same


async def test_a_cursor_goes_on_in_its_own_search_alone(gateway: Gateway, mails: list[Mail]) -> None:
    secret = await gateway.token(*(one.account_id for one in mails))
    cursor = (await search(gateway, secret, limit=2))["next_cursor"]

    for order in ({"filter": {"text": "x"}}, {"sort": ["received_at"]}, {"account_ids": [mails[0].account_id]}):
        assert (await search(gateway, secret, 422, cursor=cursor, **order))["errors"][0]["pointer"] == "/cursor"
    assert (await search(gateway, secret, 422, cursor=cursor[:-1]))["errors"][0]["pointer"] == "/cursor"


async def _highlights(mail: Mail, filter: Any, **order: Any) -> list[Any]:
    answer = await mail.client.post("/v1/me/messages/search", json={"filter": filter, "include": "highlights", **order})
    assert answer.status_code == 200, answer.text
    return [one["highlights"] for one in answer.json()["items"]]


def marked(highlight: Any) -> tuple[str, str]:
    """The field, and its snippet with what matches in brackets."""
    return highlight["field"], "".join(
        f"[{one['text']}]" if one["is_match"] else one["text"] for one in highlight["pieces"]
    )


async def test_highlights_show_where_terms_stand_as_plain_text(mail: Mail) -> None:
    html = (
        b"Content-Type: text/html\r\n\r\n<p>Say <b>needle</b> &lt;script&gt; twice: NEEDLE</p><script>needle</script>"
    )
    await mail.add(multipart(html, subject="Needle <b>work"))
    await fill(mail.gateway)

    (found,) = await _highlights(mail, {"all": [{"text": "needle"}, {"not": {"text": "absent"}}]})
    assert [marked(one) for one in found] == [
        ("subject", "[Needle] <b>work"),
        ("body", "Say [needle] <script> twice: [NEEDLE]"),
    ]
    (found,) = await _highlights(mail, {"subject": "needle"}, fields="subject")
    assert [one["field"] for one in found] == ["subject"]


async def test_without_an_index_the_preview_is_highlighted(mail: Mail) -> None:
    await mail.add(note("One", "A needle in the preview"))

    assert [marked(one) for one in (await _highlights(mail, {"body": "needle"}, view="ids"))[0]] == [
        ("body", "A [needle] in the preview")
    ]


async def test_an_answer_tells_how_much_is_indexed_where_texts_are_looked_for(mail: Mail) -> None:
    await mail.add(note("One", "needle"))
    texts = {"filter": {"text": "needle"}}

    before = (await mail.client.post("/v1/me/messages/search", json=texts)).json()
    await fill(mail.gateway)
    after = (await mail.client.post("/v1/me/messages/search", json=texts)).json()
    plain = (await mail.client.post("/v1/me/messages/search", json={"filter": {"subject": "One"}})).json()

    assert (before["indexed"], after["indexed"]) == ({"messages": 0, "of": 1}, {"messages": 1, "of": 1})
    assert len(before["items"]) == len(after["items"]) == 1
    assert plain["indexed"] is None
