from __future__ import annotations

from typing import Any

import pytest
from app.mail.delta import Arrived, Delta, MailboxReset, Previewed
from app.mail.types import FLAGGED, SEEN, MailboxId, Overview
from app.services.access.callers import Scope

from tests.gateway import Gateway, without_request_id
from tests.unit.api.mail import EVERYTHING, Mail, multipart, note, open_mail

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000


async def _fill(mail: Mail, count: int) -> list[str]:
    """Messages a day apart, subjects "0", "1" …; their ids, oldest first."""
    return [await mail.add(note(str(number)), received_at_ms=START_MS + number * DAY_MS) for number in range(count)]


def _subjects(page: Any) -> list[str]:
    return [one["subject"] for one in page["items"]]


async def test_a_list_shows_the_newest_messages_whole(mail: Mail) -> None:
    id_ = await mail.add(
        note("Invoice", "Pay me", "Cc: Bob <bob@elsewhere.test>", "In-Reply-To: <a@b.test>"),
        flags=frozenset({SEEN, "Todo"}),
        received_at_ms=START_MS,
    )
    inbox = await mail.mailbox_id()

    answer = await mail.client.get("/v1/me/messages", params={"mailbox_id": inbox})

    body = answer.json()
    assert answer.headers["ETag"] == f'"{body["state"]}"'
    assert (body["next_cursor"], body["prev_cursor"]) == (None, None)
    assert body["sync"].pop("checked_at")
    assert body["sync"] == {"status": "live", "mode": "embedded", "lag_seconds": 0}
    (shown,) = body["items"]
    assert shown.pop("thread_id").startswith("thr_")
    assert shown == {
        "view": "summary",
        "id": id_,
        "account_id": mail.account_id,
        "mailbox_ids": [inbox],
        "subject": "Invoice",
        "from": [{"name": "Ann", "address": "ann@elsewhere.test"}],
        "to": [{"name": "", "address": "me@demo.test"}],
        "cc": [{"name": "Bob", "address": "bob@elsewhere.test"}],
        "reply_to": [{"name": "Ann", "address": "ann@elsewhere.test"}],
        "date": None,
        "received_at": "2023-11-14T22:13:20Z",
        "preview": "Pay me",
        "keywords": ["$seen", "todo"],
        "size_bytes": len(note("Invoice", "Pay me", "Cc: Bob <bob@elsewhere.test>", "In-Reply-To: <a@b.test>")),
        "has_attachments": False,
        "message_id_header": "<Invoice@elsewhere.test>",
        "in_reply_to": ["<a@b.test>"],
        "references": [],
        "on_server": None,
    }


async def test_a_list_that_is_known_is_not_sent_again(mail: Mail) -> None:
    await _fill(mail, 1)
    first = await mail.client.get("/v1/me/messages")

    again = await mail.client.get("/v1/me/messages", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")

    await _fill(mail, 1)
    changed = await mail.client.get("/v1/me/messages", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200


async def test_pages_join_forwards_and_backwards(mail: Mail) -> None:
    await _fill(mail, 7)
    inbox = await mail.mailbox_id()

    first = await mail.get(mailbox_id=inbox, limit=3)
    second = await mail.get(mailbox_id=inbox, limit=3, cursor=first["next_cursor"])
    third = await mail.get(mailbox_id=inbox, limit=3, cursor=second["next_cursor"])
    back = await mail.get(mailbox_id=inbox, limit=3, cursor=third["prev_cursor"])

    assert [_subjects(page) for page in (first, second, third)] == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
    assert (first["prev_cursor"], third["next_cursor"]) == (None, None)
    assert _subjects(back) == ["3", "2", "1"]
    beginning = await mail.get(mailbox_id=inbox, limit=3, cursor=back["prev_cursor"])
    assert _subjects(beginning) == ["6", "5", "4"]
    assert beginning["prev_cursor"] is None


async def test_new_mail_and_removals_never_shift_a_page(mail: Mail) -> None:
    ids = await _fill(mail, 6)
    first = await mail.get(limit=2)
    await mail.add(note("new"))
    await mail.client.delete(f"/v1/me/messages/{ids[4]}", params={"permanent": True})

    second = await mail.get(limit=2, cursor=first["next_cursor"])

    assert _subjects(second) == ["3", "2"]


async def test_messages_that_came_at_once_are_all_listed_once(mail: Mail) -> None:
    for number in range(5):
        await mail.add(note(str(number)), received_at_ms=START_MS)

    seen: list[str] = []
    cursor = None
    while True:
        page = await (mail.get(limit=2) if cursor is None else mail.get(limit=2, cursor=cursor))
        seen += _subjects(page)
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == ["4", "3", "2", "1", "0"]


async def test_links_lead_to_the_pages_beside(mail: Mail) -> None:
    await _fill(mail, 3)
    answer = await mail.client.get("/v1/me/messages", params={"limit": 1, "subject": "a&b"})
    assert "Link" not in answer.headers

    answer = await mail.client.get("/v1/me/messages", params={"limit": 1})
    target = answer.headers["Link"].partition(">")[0].removeprefix("<")
    assert answer.headers["Link"].endswith('rel="next"')
    assert _subjects((await mail.client.get(target)).json()) == ["1"]


@pytest.mark.parametrize("sort", ["received_at", "-received_at", "subject", "-size", "from", "date"])
async def test_every_order_pages_through_everything(mail: Mail, sort: str) -> None:
    for number in range(5):
        await mail.add(note("x" * number, "y" * number), received_at_ms=START_MS + number)

    seen: list[str] = []
    page = await mail.get(limit=2, sort=sort)
    seen += _subjects(page)
    while page["next_cursor"]:
        page = await mail.get(limit=2, sort=sort, cursor=page["next_cursor"])
        seen += _subjects(page)

    expected = ["", "x", "xx", "xxx", "xxxx"]
    descending = sort in ("-received_at", "-size", "from", "date")
    assert sorted(seen) == expected
    if sort not in ("from", "date"):
        assert seen == (expected[::-1] if descending else expected)


async def test_a_cursor_stays_short_however_long_the_subject(mail: Mail) -> None:
    for number in range(2):
        await mail.add(note("ü" * 3_000 + str(number)))

    page = await mail.get(limit=1, sort="subject")
    assert len(page["next_cursor"]) < 1_500
    assert len((await mail.get(limit=1, sort="subject", cursor=page["next_cursor"]))["items"]) == 1


@pytest.mark.parametrize("cursor", ["x", "x.y", "..", "a" * 4096])
async def test_a_made_up_cursor_is_refused(mail: Mail, cursor: str) -> None:
    problem = await mail.get(cursor=cursor, expected=422)

    assert problem["errors"][0]["parameter"] == "cursor"


async def test_a_cursor_is_for_the_list_it_came_from(gateway: Gateway, mail: Mail) -> None:
    await _fill(mail, 3)
    cursor = (await mail.get(limit=1))["next_cursor"]

    assert (await mail.get(limit=1, cursor=cursor, subject="1", expected=422))["code"] == "invalid_request"
    assert (await mail.get(limit=1, cursor=cursor, sort="size", expected=422))["code"] == "invalid_request"
    other = await open_mail(gateway, "other@demo.test")
    assert (await other.get(limit=1, cursor=cursor, expected=422))["code"] == "invalid_request"


async def test_a_cursor_of_a_mailbox_that_was_made_anew_has_expired(mail: Mail) -> None:
    await _fill(mail, 3)
    inbox = await mail.mailbox_id()
    cursor = (await mail.get(mailbox_id=inbox, limit=1))["next_cursor"]
    reset = Delta(mailboxes_reset=(MailboxReset(MailboxId(inbox), 4_000_000_000),))
    await mail.gateway.harness.index.apply(mail.account_id, reset)

    problem = await mail.get(mailbox_id=inbox, limit=1, cursor=cursor, expected=410)

    assert (problem["code"], problem["mailbox_ids"]) == ("state_expired", [inbox])


async def test_conditions_of_a_list_must_all_hold(mail: Mail) -> None:
    await mail.add(note("Invoice one"), flags=frozenset({SEEN}), received_at_ms=START_MS)
    await mail.add(note("Invoice two"), received_at_ms=START_MS + DAY_MS)
    await mail.add(note("Letter"), received_at_ms=START_MS + 2 * DAY_MS)

    assert _subjects(await mail.get(subject="INVOICE")) == ["Invoice two", "Invoice one"]
    assert _subjects(await mail.get(subject="invoice", keyword="$seen")) == ["Invoice one"]
    assert _subjects(await mail.get(not_keyword="$SEEN")) == ["Letter", "Invoice two"]
    assert _subjects(await mail.get(since="2023-11-15T22:13:20Z", before="2023-11-16T22:13:20Z")) == ["Invoice two"]
    assert _subjects(await mail.get(message_id_header="<Letter@elsewhere.test>")) == ["Letter"]
    both: dict[str, Any] = {"from": "ann@", "larger_than": 1_000_000}
    assert _subjects(await mail.get(**both)) == []
    assert (await mail.get(subject="invoice", count="exact", limit=1))["total"] == 2
    assert (await mail.get())["total"] is None


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"sort": "colour"}, "sort"),
        ({"view": "half"}, "view"),
        ({"fields": "id,colour"}, "fields"),
        ({"fields": "text"}, "fields"),
        ({"fields": "from.address.domain"}, "fields"),
        ({"include": "weather"}, "include"),
        ({"include": "headers:"}, "include"),
        ({"include": "headers:a\r\nb"}, "include"),
        ({"colour": "red"}, "colour"),
        ({"since": "yesterday"}, "since"),
        ({"keyword": "a b"}, "keyword"),
        ({"keyword": "a{5}"}, "keyword"),
        ({"subject": "a\r\nb"}, "subject"),
        ({"mailbox_id": "../x"}, "mailbox_id"),
        ({"count": "many"}, "count"),
    ],
)
async def test_a_query_that_makes_no_sense_names_the_parameter(
    mail: Mail, parameters: dict[str, str], named: str
) -> None:
    problem = await mail.get(expected=422, **parameters)

    assert [one["parameter"] for one in problem["errors"]] == [named]


async def test_fields_narrow_what_is_shown(mail: Mail) -> None:
    id_ = await mail.add(note("Invoice"))

    listed = await mail.get(fields="id,from.address,subject")
    assert listed["items"] == [
        {"view": "partial", "id": id_, "subject": "Invoice", "from": [{"address": "ann@elsewhere.test"}]}
    ]
    assert (await mail.get(view="ids"))["items"] == [{"view": "ids", "id": id_}]
    assert await mail.get(f"/{id_}", fields="keywords") == {"view": "partial", "keywords": []}
    assert await mail.get(f"/{id_}", view="full", fields="text,locations.uid") == {
        "view": "partial",
        "text": "Some text\n",
        "locations": [{"uid": 1}],
    }


async def test_headers_and_threads_are_included_on_request(mail: Mail) -> None:
    first = await mail.add(note("one", "x", "List-Id: =?utf-8?q?K=C3=A4se?= <k.test>", "X-A: 1", "X-A: 2"))
    second = await mail.add(note("two", "y", "In-Reply-To: <one@elsewhere.test>"))

    items = (await mail.get(include="thread,headers:list-id,headers:X-A", fields="id"))["items"]

    thread = {"id": items[0]["thread"]["id"], "message_ids": [first, second]}
    assert items == [
        {"view": "partial", "id": second, "headers": {"list-id": [], "X-A": []}, "thread": thread},
        {
            "view": "partial",
            "id": first,
            "headers": {"list-id": ["Käse <k.test>"], "X-A": ["1", "2"]},
            "thread": thread,
        },
    ]


async def test_a_message_is_shown_in_full(mail: Mail) -> None:
    id_ = await mail.add(
        multipart(
            b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>Pay <b>me</b></p><script>steal()</script>",
            b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n"
            b"Content-Disposition: attachment; filename=a.pdf\r\n\r\nJVBERi0xLjQK",
            subject="Invoice",
        )
    )

    shown = await mail.get(f"/{id_}", view="full")

    assert shown["text"].strip() == "Pay me"
    assert shown["html"] == "<p>Pay <b>me</b></p>"
    (attachment,) = shown["attachments"]
    assert attachment["id"].startswith("att_")
    assert attachment == {
        "id": attachment["id"],
        "part": "2",
        "filename": "a.pdf",
        "content_type": "application/pdf",
        "size_bytes": 9,
        "disposition": "attachment",
        "content_id": None,
    }
    assert shown["locations"] == [
        {"mailbox_id": await mail.mailbox_id(), "uid": 1, "uid_validity": shown["locations"][0]["uid_validity"]}
    ]
    assert (shown["bcc"], shown["problems"], shown["subject"]) == ([], [], "Invoice")
    assert await mail.get(f"/{id_}", view="full") == shown


async def test_the_etag_of_a_message_is_of_its_version_and_view(mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    path = f"/v1/me/messages/{id_}"
    summary, full = await mail.client.get(path), await mail.client.get(path, params={"view": "full"})
    assert summary.headers["ETag"] != full.headers["ETag"]

    known = await mail.client.get(path, headers={"If-None-Match": summary.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    await mail.client.patch(path, json={"keywords": {"add": ["$flagged"]}})
    changed = await mail.client.get(path, headers={"If-None-Match": summary.headers["ETag"]})
    assert changed.status_code == 200


async def test_keywords_are_added_and_removed(mail: Mail) -> None:
    id_ = await mail.add(note("one"), flags=frozenset({SEEN}))

    answer = await mail.client.patch(
        f"/v1/me/messages/{id_}", json={"keywords": {"add": ["$flagged", "Work"], "remove": ["$seen", "$draft"]}}
    )

    assert answer.status_code == 200
    assert answer.json()["keywords"] == ["$flagged", "work"]
    assert answer.headers["Postgate-State"] == (await mail.get())["state"]
    stored = await mail.gateway.harness.reader.messages.message(mail.account_id, id_)
    assert stored.flags == {FLAGGED, "Work"}


async def test_a_moved_message_keeps_its_id(mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    archive = await mail.mailbox_id("Archive")

    answer = await mail.client.patch(
        f"/v1/me/messages/{id_}", json={"mailbox_id": archive, "keywords": {"add": ["$seen"]}}
    )

    assert (answer.json()["id"], answer.json()["mailbox_ids"], answer.json()["keywords"]) == (id_, [archive], ["$seen"])
    assert (await mail.subjects(), await mail.subjects("Archive")) == ([], ["one"])


async def test_a_change_of_what_has_changed_since_is_refused(mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    path = f"/v1/me/messages/{id_}"
    known = (await mail.client.get(path)).headers["ETag"]
    change = {"keywords": {"add": ["$seen"]}}

    first = await mail.client.patch(path, json=change, headers={"If-Match": known})
    assert first.status_code == 200
    for call in (
        mail.client.patch(path, json={"keywords": {"add": ["$flagged"]}}, headers={"If-Match": known}),
        mail.client.patch(path, json={"mailbox_id": await mail.mailbox_id("Archive")}, headers={"If-Match": known}),
        mail.client.delete(path, headers={"If-Match": known}),
        mail.client.delete(path, headers={"If-Match": '"made-up"'}),
    ):
        refused = await call
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert (await mail.get(f"/{id_}"))["keywords"] == ["$seen"]
    again = await mail.client.delete(path, headers={"If-Match": f'"other", {first.headers["ETag"]}'})
    assert again.status_code == 200


async def test_a_removed_message_goes_to_trash_and_from_there_for_good(mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    path = f"/v1/me/messages/{id_}"

    first = await mail.client.delete(path)
    assert (first.status_code, first.json()["mailbox_ids"]) == (200, [await mail.mailbox_id("Trash")])
    second = await mail.client.delete(path)
    assert (second.status_code, second.content) == (204, b"")
    assert second.headers["Postgate-State"]
    assert (await mail.client.delete(path)).status_code == 404


async def test_a_permanent_removal_leaves_nothing_in_trash(mail: Mail) -> None:
    id_ = await mail.add(note("one"))

    assert (await mail.client.delete(f"/v1/me/messages/{id_}", params={"permanent": "true"})).status_code == 204
    assert await mail.subjects("Trash") == []
    await mail.get(f"/{id_}", expected=404)


async def test_trash_is_made_where_there_is_none(mail: Mail) -> None:
    trash = await mail.mailbox_id("Trash")
    assert (await mail.client.delete(f"/v1/me/mailboxes/{trash}")).status_code == 204
    id_ = await mail.add(note("one"))

    assert (await mail.client.delete(f"/v1/me/messages/{id_}")).status_code == 200
    assert await mail.subjects("Trash") == ["one"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"keywords": {"add": ["a b"]}}, "/keywords/add/0"),
        ({"keywords": {"add": ["\\Seen"]}}, "/keywords/add/0"),
        ({"keywords": {"add": ["x{5+}"]}}, "/keywords/add/0"),
        ({"keywords": {"add": ["a\r\nb"]}}, "/keywords/add/0"),
        ({"keywords": {"add": ["$seen"], "remove": ["$seen"]}}, "/keywords"),
        ({"keywords": {"set": []}}, "/keywords/set"),
        ({"mailbox_id": 7}, "/mailbox_id"),
        ({"subject": "new"}, "/subject"),
    ],
)
async def test_a_change_that_makes_no_sense_points_at_its_fault(mail: Mail, body: Any, pointer: str) -> None:
    id_ = await mail.add(note("one"))

    answer = await mail.client.patch(f"/v1/me/messages/{id_}", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_idor_messages_of_another_account_look_like_unknown_ones(gateway: Gateway, mail: Mail) -> None:
    """With warm caches, by every route below a message."""
    mine = await mail.add(note("mine"))
    other = await open_mail(gateway, "other@demo.test")
    await mail.get(f"/{mine}", view="full")
    calls = [
        ("GET", "", None),
        ("GET", "?view=full", None),
        ("GET", "/raw", None),
        ("GET", "/headers", None),
        ("GET", "/body", None),
        ("GET", "/parts/1", None),
        ("GET", "/attachments/att_x", None),
        ("PATCH", "", {"keywords": {"add": ["$seen"]}}),
        ("DELETE", "", None),
    ]
    for method, below, body in calls:
        foreign = await other.client.request(method, f"/v1/me/messages/{mine}{below}", json=body)
        unknown = await other.client.request(method, f"/v1/me/messages/msg_unknown{below}", json=body)
        assert foreign.status_code == 404, (method, below)
        assert without_request_id(foreign) == without_request_id(unknown)
    assert (await mail.get(f"/{mine}"))["keywords"] == []


async def test_a_token_for_some_mailboxes_sees_no_other(gateway: Gateway, mail: Mail) -> None:
    visible = await mail.add(note("visible"))
    hidden = await mail.add(note("hidden"), "Archive")
    inbox, archive = await mail.mailbox_id(), await mail.mailbox_id("Archive")
    secret = await gateway.token(mail.account_id, scopes=EVERYTHING, mailbox_ids=(inbox,))
    limited = Mail(gateway, mail.account_id, gateway.client(secret))

    assert _subjects(await limited.get()) == ["visible"]
    assert _subjects(await limited.get(sort="subject")) == ["visible"]
    await limited.get(mailbox_id=archive, expected=404)
    await limited.get(f"/{hidden}", expected=404)
    found = await limited.client.post("/v1/me/messages/search", json={"filter": {"text": "some"}})
    assert _subjects(found.json()) == ["visible"]
    moved = await limited.client.patch(f"/v1/me/messages/{visible}", json={"mailbox_id": archive})
    assert (moved.status_code, moved.json()["code"]) == (404, "mailbox_not_found")
    got = await limited.client.post("/v1/me/messages/batch-get", json={"message_ids": [hidden, visible]})
    assert [one["status"] for one in got.json()["results"]] == [404, 200]


async def test_each_call_needs_its_scope(gateway: Gateway, mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    reader = gateway.client(await gateway.token(mail.account_id, scopes=[Scope.MAIL_READ]))
    modifier = gateway.client(await gateway.token(mail.account_id, scopes=[Scope.MAIL_MODIFY]))

    assert (await reader.patch(f"/v1/me/messages/{id_}", json={"keywords": {"add": ["$seen"]}})).status_code == 403
    assert (await reader.delete(f"/v1/me/messages/{id_}")).status_code == 403
    assert (await modifier.get("/v1/me/messages")).status_code == 403
    removal = await modifier.post("/v1/me/messages/batch", json={"message_ids": [id_], "delete": True})
    assert removal.status_code == 403
    assert (await mail.get(f"/{id_}"))["keywords"] == []


async def test_a_list_of_a_mailbox_that_is_gone_is_not_found(mail: Mail) -> None:
    problem = await mail.get(mailbox_id="mbx_unknown", expected=404)

    assert problem["code"] == "mailbox_not_found"


@pytest.mark.parametrize("path", ["messages", "threads"])
async def test_a_list_has_no_etag_until_the_previews_that_it_shows_are_read(
    gateway: Gateway, mail: Mail, path: str
) -> None:
    """A preview comes without an event, so the list changes while the state stays the same."""
    index, inbox = gateway.harness.index, MailboxId(await mail.mailbox_id())
    unread = Arrived(inbox, 0, frozenset(), START_MS, 10, Overview("Hello"), None)
    applied = await index.apply(mail.account_id, Delta(arrived=(unread,)))
    (at,) = applied.message_ids

    before = await mail.client.get(f"/v1/me/{path}")
    await index.apply(mail.account_id, Delta(previewed=(Previewed(at, "Some words"),)))
    after = await mail.client.get(f"/v1/me/{path}", headers={"If-None-Match": f'"{before.json()["state"]}"'})

    assert before.json()["items"][0]["preview"] is None
    assert "ETag" not in before.headers
    fresh = await mail.client.get(f"/v1/me/{path}")
    assert fresh.headers["ETag"] == f'"{before.json()["state"]}"'
    assert fresh.json()["items"][0]["preview"] == "Some words"
    assert after.status_code == 304  # of a state that came with a body, not as an ETag
