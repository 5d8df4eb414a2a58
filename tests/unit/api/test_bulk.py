from __future__ import annotations

from typing import Any

import pytest
from app.mail.types import SEEN
from app.services.changing import bulk

from tests.gateway import Gateway
from tests.unit.api.mail import Mail, note, open_mail


async def _post(mail: Mail, path: str, body: Any, expected: int = 200, key: str | None = None) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = await mail.client.post(f"/v1/me/messages/{path}", json=body, headers=headers)
    assert answer.status_code == expected, answer.text
    return answer.json()


async def test_messages_of_several_mailboxes_move_and_keep_their_ids(mail: Mail) -> None:
    first, second = await mail.add(note("first")), await mail.add(note("second"), "Sent")
    there = await mail.add(note("there"), "Archive")
    archive = await mail.mailbox_id("Archive")

    answer = await _post(mail, "move", {"message_ids": [second, "msg_none", first, there], "mailbox_id": archive})

    assert [(one["id"], one["status"]) for one in answer["results"]] == [
        (second, 200),
        ("msg_none", 404),
        (first, 200),
        (there, 200),
    ]
    assert answer["results"][1]["problem"]["code"] == "message_not_found"
    assert answer["summary"] == {"ok": 3, "failed": 1}
    assert answer["state"] == (await mail.get())["state"]
    listed = await mail.get(mailbox_id=archive)
    assert {one["id"] for one in listed["items"]} == {first, second, there}


async def test_a_move_is_safe_to_repeat(mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    order = {"message_ids": [id_], "mailbox_id": await mail.mailbox_id("Archive")}

    first, second = await _post(mail, "move", order), await _post(mail, "move", order)

    assert first == second


async def test_a_copy_has_an_id_of_its_own(mail: Mail) -> None:
    id_ = await mail.add(note("one"), flags=frozenset({SEEN}))
    archive = await mail.mailbox_id("Archive")

    answer = await _post(mail, "copy", {"message_ids": [id_], "mailbox_id": archive})

    (result,) = answer["results"]
    copy = await mail.get(f"/{result['new_id']}", view="full")
    assert result["new_id"] != id_
    assert (copy["mailbox_ids"], copy["keywords"], copy["text"]) == ([archive], ["$seen"], "Some text\n")
    assert await mail.subjects() == ["one"]


async def test_a_repeated_copy_with_its_key_makes_no_second_one(mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    order = {"message_ids": [id_], "mailbox_id": await mail.mailbox_id("Archive")}

    first = await _post(mail, "copy", order, key="k1")
    again = await mail.client.post("/v1/me/messages/copy", json=order, headers={"Idempotency-Key": "k1"})

    assert again.json() == first
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await mail.subjects("Archive") == ["one"]


async def test_keywords_change_by_id_and_by_filter(mail: Mail) -> None:
    first, second = await mail.add(note("Invoice 1")), await mail.add(note("Invoice 2"))
    await mail.add(note("Letter"))

    await _post(mail, "batch", {"message_ids": [first], "keywords": {"add": ["$seen"]}})
    answer = await _post(
        mail, "batch", {"filter": {"subject": "invoice", "not_keyword": "$seen"}, "keywords": {"add": ["$flagged"]}}
    )

    assert [one["id"] for one in answer["results"]] == [second]
    assert (await mail.get(keyword="$seen"))["items"][0]["id"] == first
    assert (await mail.get(keyword="$flagged"))["items"][0]["id"] == second


async def test_messages_are_removed_to_trash_and_for_good(mail: Mail) -> None:
    first, second = await mail.add(note("first")), await mail.add(note("second"))

    await _post(mail, "batch", {"message_ids": [first], "delete": "trash"})
    assert await mail.subjects("Trash") == ["first"]
    answer = await _post(mail, "batch", {"message_ids": [first, second], "delete": "trash"})
    assert answer["summary"] == {"ok": 2, "failed": 0}
    assert await mail.subjects("Trash") == ["second"]
    await _post(mail, "batch", {"filter": {}, "delete": "permanent"})
    assert (await mail.get())["items"] == []


async def test_a_filter_that_finds_too_much_changes_nothing(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "FILTER_LIMIT", 1)
    for number in range(2):
        await mail.add(note(str(number)))

    problem = await _post(mail, "batch", {"filter": {}, "delete": "permanent"}, expected=413)

    assert problem["code"] == "too_large"
    assert len(await mail.subjects()) == 2


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("batch", {"keywords": {"add": ["$seen"]}}, ""),
        ("batch", {"message_ids": ["msg_x"], "filter": {}, "delete": "trash"}, ""),
        ("batch", {"message_ids": ["msg_x"]}, ""),
        ("batch", {"message_ids": ["msg_x"], "delete": "trash", "keywords": {"add": ["$seen"]}}, ""),
        ("batch", {"message_ids": ["msg_x"], "delete": False}, "/delete"),
        ("move", {"message_ids": [], "mailbox_id": "mbx_x"}, "/message_ids"),
        ("move", {"message_ids": ["a b"], "mailbox_id": "mbx_x"}, "/message_ids/0"),
        ("move", {"message_ids": ["msg_x"]}, "/mailbox_id"),
        ("move", {"message_ids": ["msg_x"] * 1001, "mailbox_id": "mbx_x"}, "/message_ids"),
        ("batch-get", {"message_ids": "msg_x"}, "/message_ids"),
    ],
)
async def test_an_order_that_makes_no_sense_points_at_its_fault(mail: Mail, path: str, body: Any, pointer: str) -> None:
    problem = await _post(mail, path, body, expected=422)

    assert problem["errors"][0]["pointer"].startswith(pointer)


async def test_a_target_that_is_not_the_callers_is_not_found(gateway: Gateway, mail: Mail) -> None:
    id_ = await mail.add(note("one"))
    other = await open_mail(gateway, "other@demo.test")

    for path in ("move", "copy"):
        problem = await _post(mail, path, {"message_ids": [id_], "mailbox_id": await other.mailbox_id()}, expected=404)
        assert problem["code"] == "mailbox_not_found"


async def test_many_messages_are_read_in_the_order_asked_for(mail: Mail) -> None:
    first, second = await mail.add(note("first")), await mail.add(note("second"))

    answer = await _post(
        mail, "batch-get", {"message_ids": [second, "msg_none", first], "view": "full", "fields": "subject,text"}
    )

    assert [one["status"] for one in answer["results"]] == [200, 404, 200]
    assert answer["results"][0]["message"] == {
        "view": "partial",
        "subject": "second",
        "text": "Some text\n",
    }
    assert answer["results"][2]["message"]["subject"] == "first"


async def test_too_many_messages_to_read_in_full_are_refused_at_their_place(mail: Mail) -> None:
    order = {"message_ids": [f"msg_{number}" for number in range(101)], "view": "full"}

    answer = await mail.client.post("/v1/me/messages/batch-get", json=order)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/message_ids")
