"""What requests may hold, whatever the route: null, addresses as texts, roles for mailboxes, search texts."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from app.mail.types import FLAGGED, SEEN
from app.services.access.callers import Scope

from tests.unit.api.mail import Mail, note


async def _subjects(mail: Mail, path: str = "", **parameters: Any) -> list[str]:
    listed = await mail.get(path, **parameters)
    return [message["subject"] for message in listed["items"]]


# ---- null


async def test_null_in_a_post_means_absent(mail: Mail) -> None:
    await mail.add(note("Here"))

    answer = await mail.client.post(
        "/v1/me/messages/search",
        json={"filter": {"subject": "here", "from": None, "not": None}, "limit": None, "cursor": None, "view": None},
    )

    assert [message["subject"] for message in answer.json()["items"]] == ["Here"]


async def test_an_unknown_field_is_an_error_even_with_null(mail: Mail) -> None:
    refused = await mail.client.post("/v1/me/messages/search", json={"filtre": None})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/filtre")


async def test_null_in_a_patch_clears_what_can_be_cleared(mail: Mail) -> None:
    parent = (await mail.client.post("/v1/me/mailboxes", json={"name": "Work", "parent_id": None})).json()
    child = (await mail.client.post("/v1/me/mailboxes", json={"name": "Trip", "parent_id": parent["id"]})).json()

    moved = await mail.client.patch(f"/v1/me/mailboxes/{child['id']}", json={"parent_id": None})

    assert (moved.status_code, moved.json()["path"]) == (200, "Trip")


@pytest.mark.parametrize("field", ["name", "is_subscribed"])
async def test_null_for_what_a_patch_cannot_clear_is_an_error_at_the_field(mail: Mail, field: str) -> None:
    mailbox_id = (await mail.client.post("/v1/me/mailboxes", json={"name": "Work"})).json()["id"]

    refused = await mail.client.patch(f"/v1/me/mailboxes/{mailbox_id}", json={field: None})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, f"/{field}")


async def test_a_message_has_nothing_that_null_could_clear(mail: Mail) -> None:
    id_ = await mail.add(note("Here"))

    refused = await mail.client.patch(f"/v1/me/messages/{id_}", json={"mailbox_id": None, "keywords": {"add": []}})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/mailbox_id")


# ---- addresses


async def test_an_address_is_an_object_or_a_text(mail: Mail) -> None:
    inbox = await mail.mailbox_id()
    body = {
        "to": [
            "bob@example.org",
            "Bob B. <bob@example.org>",
            '"B, Bob" <bob@example.org>',
            {"address": "b@example.org"},
        ],
        "from": None,
        "subject": "To many",
    }

    made = await mail.client.post(f"/v1/me/messages?mailbox_id={inbox}", json=body)

    assert made.status_code == 201, made.text
    assert [(to["name"], to["address"]) for to in made.json()["to"]] == [
        ("", "bob@example.org"),
        ("Bob B.", "bob@example.org"),
        ("B, Bob", "bob@example.org"),
        ("", "b@example.org"),
    ]


@pytest.mark.parametrize(
    "text", ["", "bob", "a@x.org, b@x.org", "Bob <bob>", "<>", "a b@x.org", "bob@-", "friends: a@x.org;", "x" * 3_000]
)
async def test_a_text_that_is_not_one_address_is_an_error_at_its_place(mail: Mail, text: str) -> None:
    inbox = await mail.mailbox_id()

    refused = await mail.client.post(f"/v1/me/messages?mailbox_id={inbox}", json={"to": [text]})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/to/0")


# ---- mailboxes by role


async def test_a_role_stands_for_its_mailbox(mail: Mail) -> None:
    id_ = await mail.add(note("Here"))

    assert await _subjects(mail, mailbox_id="inbox") == ["Here"]
    moved = await mail.client.patch(f"/v1/me/messages/{id_}", json={"mailbox_id": "archive"})
    assert moved.json()["mailbox_ids"] == [await mail.mailbox_id("Archive")]
    copied = await mail.client.post("/v1/me/messages/copy", json={"message_ids": [id_], "mailbox_id": "inbox"})
    assert copied.json()["summary"] == {"ok": 1, "failed": 0}
    found = await mail.client.post("/v1/me/messages/search", json={"filter": {"mailbox_id": "archive"}})
    assert [message["id"] for message in found.json()["items"]] == [id_]
    assert (await mail.client.get("/v1/me/mailboxes/sent")).json()["role"] == "sent"


async def test_a_role_without_a_mailbox_is_not_found(mail: Mail) -> None:
    assert (await mail.get(expected=404, mailbox_id="all"))["code"] == "mailbox_not_found"


async def test_a_role_leads_no_token_beyond_its_mailboxes(mail: Mail) -> None:
    await mail.add(note("Here"))
    archive = await mail.mailbox_id("Archive")
    secret = await mail.gateway.token(mail.account_id, scopes=(Scope.MAIL_READ,), mailbox_ids=(archive,))
    client = mail.gateway.client(secret)

    assert (await client.get("/v1/me/messages", params={"mailbox_id": "inbox"})).status_code == 404
    assert (await client.get("/v1/me/messages", params={"mailbox_id": "archive"})).status_code == 200
    assert (await client.get("/v1/me/mailboxes/inbox")).status_code == 404


# ---- what a list leaves out


async def test_lists_and_searches_leave_trash_and_junk_out_unless_asked_for(mail: Mail) -> None:
    for path in ("INBOX", "Trash", "Junk"):
        await mail.add(note(f"in {path}"), path)

    assert await _subjects(mail) == ["in INBOX"]
    assert sorted(await _subjects(mail, **{"in": "anywhere"})) == ["in INBOX", "in Junk", "in Trash"]
    assert await _subjects(mail, mailbox_id="trash") == ["in Trash"]
    assert sorted(await _subjects(mail, q="in:anywhere subject:in")) == ["in INBOX", "in Junk", "in Trash"]
    threads = (await mail.client.get("/v1/me/threads")).json()["items"]
    assert [thread["subject"] for thread in threads] == ["in INBOX"]
    for body, count in (({}, 1), ({"in": "anywhere"}, 3), ({"filter": {"not": {"mailbox_id": "junk"}}}, 2)):
        found = await mail.client.post("/v1/me/messages/search", json=body, params={"count": "exact"})
        assert found.json()["total"] == count, body
    across = await mail.client.post("/v1/search", json={})
    assert [message["subject"] for message in across.json()["items"]] == ["in INBOX"]


async def test_a_batch_by_filter_leaves_nothing_out(mail: Mail) -> None:
    for path in ("INBOX", "Trash", "Junk"):
        await mail.add(note(f"in {path}"), path)

    answer = await mail.client.post("/v1/me/messages/batch", json={"filter": {}, "keywords": {"add": ["$seen"]}})

    assert answer.json()["summary"] == {"ok": 3, "failed": 0}


# ---- conditions and search texts


async def test_unread_and_flagged_are_conditions(mail: Mail) -> None:
    await mail.add(note("read"), flags=frozenset({SEEN}))
    await mail.add(note("starred"), flags=frozenset({FLAGGED}))

    assert await _subjects(mail, unread="true") == ["starred"]
    assert await _subjects(mail, unread="false") == ["read"]
    assert await _subjects(mail, flagged="true", unread="true") == ["starred"]
    found = await mail.client.post("/v1/me/messages/search", json={"filter": {"flagged": False}})
    assert [message["subject"] for message in found.json()["items"]] == ["read"]


async def test_a_date_is_its_midnight_in_utc(mail: Mail) -> None:
    await mail.add(note("old"), received_at_ms=1_767_225_599_000)
    await mail.add(note("new"), received_at_ms=1_767_225_600_000)

    assert await _subjects(mail, since="2026-01-01") == ["new"]
    assert await _subjects(mail, before="2026-01-01") == ["old"]
    assert await _subjects(mail, q="after:2026-01-01") == ["new"]


async def test_a_search_text_is_answered_with_the_filter_that_it_means(mail: Mail) -> None:
    await mail.add(note("Trip to Rome"))
    await mail.add(note("Trip to Paris"), flags=frozenset({SEEN}))
    text = 'in:Inbox (rome OR paris) is:unread -from:bob larger:1 after:2020-01-01 "trip to"'

    listed = await mail.get(q=text)

    assert [message["subject"] for message in listed["items"]] == ["Trip to Rome"]
    assert listed["filter"] == {
        "all": [
            {"mailbox_id": await mail.mailbox_id()},
            {"any": [{"text": "rome"}, {"text": "paris"}]},
            {"unread": True},
            {"not": {"from": "bob"}},
            {"larger_than": 1},
            {"since": "2020-01-01T00:00:00Z"},
            {"text": "trip to"},
        ]
    }
    again = await mail.client.post("/v1/me/messages/search", json={"filter": listed["filter"]})
    assert [message["subject"] for message in again.json()["items"]] == ["Trip to Rome"]
    assert again.json()["filter"] is None


async def test_a_search_text_works_in_every_search(mail: Mail) -> None:
    await mail.add(note("Rome"))
    await mail.add(note("Paris"))

    threads = await mail.client.get("/v1/me/threads", params={"q": "subject:rome"})
    searched = await mail.client.post("/v1/me/messages/search", json={"q": "subject:rome"})
    across = await mail.client.post("/v1/search", json={"q": "subject:rome in:inbox"})

    for answer in (threads, searched, across):
        assert [found["subject"] for found in answer.json()["items"]] == ["Rome"], answer.text


async def test_a_fault_of_a_search_text_points_at_q(mail: Mail) -> None:
    listed = await mail.get(expected=422, q="is:blue")
    searched = await mail.client.post("/v1/me/messages/search", json={"q": "in:nowhere"})

    assert listed["errors"][0]["parameter"] == "q"
    assert (searched.status_code, searched.json()["errors"][0]["pointer"]) == (422, "/q")


# ---- batches and pages


async def test_a_batch_moves_to_trash_or_removes_for_good(mail: Mail) -> None:
    first, second = await mail.add(note("one")), await mail.add(note("two"))

    await mail.client.post("/v1/me/messages/batch", json={"message_ids": [first], "delete": "trash"})
    await mail.client.post("/v1/me/messages/batch", json={"message_ids": [second], "delete": "permanent"})

    assert await mail.subjects("Trash") == ["one"]
    assert await mail.subjects() == []


async def test_mailboxes_come_all_at_once_or_in_pages(mail: Mail) -> None:
    everything = (await mail.client.get("/v1/me/mailboxes")).json()
    assert everything["next_cursor"] is None

    paths, cursor = [], None
    while True:
        page = await mail.client.get("/v1/me/mailboxes", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        paths += [mailbox["path"] for mailbox in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        assert ("next" in page.headers.get("link", "")) == (cursor is not None)
        if cursor is None:
            break

    assert paths == [mailbox["path"] for mailbox in everything["items"]]


# ---- what is wrong is named


@pytest.mark.parametrize("mailbox_id", ["mbx_unknown", "all"])
@pytest.mark.parametrize(
    ("method", "path", "body", "place"),
    [
        ("GET", "/messages?mailbox_id={mailbox}", None, {"parameter": "mailbox_id"}),
        ("GET", "/threads?mailbox_id={mailbox}", None, {"parameter": "mailbox_id"}),
        ("POST", "/messages/search", {"filter": {"mailbox_id": "{mailbox}"}}, {"pointer": "/filter"}),
        ("PATCH", "/messages/{message}", {"mailbox_id": "{mailbox}"}, {"pointer": "/mailbox_id"}),
        (
            "POST",
            "/messages/move",
            {"message_ids": ["{message}"], "mailbox_id": "{mailbox}"},
            {"pointer": "/mailbox_id"},
        ),
        (
            "POST",
            "/messages/batch",
            {"message_ids": ["{message}"], "mailbox_id": "{mailbox}"},
            {"pointer": "/mailbox_id"},
        ),
    ],
)
async def test_an_unknown_mailbox_is_pointed_at(
    mail: Mail, method: str, path: str, body: dict[str, Any] | None, place: dict[str, str], mailbox_id: str
) -> None:
    def filled(text: str) -> str:
        return text.replace("{mailbox}", mailbox_id).replace("{message}", id_)

    id_ = await mail.add(note("Here"))
    content = None if body is None else filled(orjson.dumps(body).decode())
    headers = {"Content-Type": "application/json"}

    refused = await mail.client.request(method, f"/v1/me{filled(path)}", content=content, headers=headers)

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (404, "mailbox_not_found")
    [fault] = problem["errors"]
    assert fault == {**place, "detail": fault["detail"]}
    assert next(iter(place.values())) in problem["detail"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"fields": "subject,form"}, "Unknown field `form`. Did you mean `from`?"),
        ({"fields": "from.adress"}, "Unknown field `from.adress`. Did you mean `from.address`?"),
        ({"include": "highlight"}, "Unknown inclusion `highlight`. Did you mean `highlights`?"),
        (
            {"sort": "-recieved_at"},
            "Must be one of received_at, date, size, subject, from, with a minus for descending",
        ),
        ({"limt": "1"}, "Unknown parameter `limt`. Did you mean `limit`?"),
    ],
)
async def test_an_unknown_name_comes_with_the_nearest_known_one(mail: Mail, query: dict[str, str], detail: str) -> None:
    problem = await mail.get(expected=422, **query)

    assert detail in problem["errors"][0]["detail"]
