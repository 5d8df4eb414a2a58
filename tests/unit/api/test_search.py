from __future__ import annotations

from typing import Any

import pytest
from app.mail.types import SEEN

from tests.unit.api.mail import Mail, multipart, note


async def _search(mail: Mail, filter: Any, expected: int = 200, **order: Any) -> Any:
    answer = await mail.client.post("/v1/me/messages/search", json={"filter": filter, **order})
    assert answer.status_code == expected, answer.text
    return answer.json()


async def _found(mail: Mail, filter: Any) -> set[str]:
    return {one["subject"] for one in (await _search(mail, filter))["items"]}


async def test_a_tree_of_conditions_finds_what_it_says(mail: Mail) -> None:
    await mail.add(note("Invoice", "about apples"), flags=frozenset({SEEN}))
    await mail.add(note("Letter", "an invoice inside"))
    await mail.add(note("Song", "la la"))
    await mail.add(
        multipart(b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xc3\x84pfel", subject="Fruit"), "Archive"
    )

    assert await _found(mail, {}) == {"Invoice", "Letter", "Song", "Fruit"}
    assert await _found(mail, {"any": [{"subject": "invoice"}, {"text": "invoice"}]}) == {"Invoice", "Letter"}
    assert await _found(mail, {"all": [{"text": "invoice"}, {"not": {"keyword": "$seen"}}]}) == {"Letter"}
    assert await _found(mail, {"body": "ÄPFEL"}) == {"Fruit"}
    assert await _found(mail, {"body": "invoice"}) == {"Letter"}
    assert await _found(mail, {"not": {"from": "ann"}}) == {"Fruit"}
    assert await _found(mail, {"any": []}) == set()
    assert await _found(mail, {"all": []}) == {"Invoice", "Letter", "Song", "Fruit"}
    assert await _found(mail, {"mailbox_id": await mail.mailbox_id("Archive")}) == {"Fruit"}
    assert await _found(mail, {"header": {"name": "message-id", "value": "letter@"}}) == {"Letter"}
    assert await _found(mail, {"header": {"name": "Message-ID", "value": ""}}) == {"Invoice", "Letter", "Song"}


@pytest.mark.parametrize("value", ["%", "_", "\\", "'", '"', "a{5}", "a{5+}", "100%", "( \\Seen"])
async def test_a_text_stays_a_text_whatever_it_holds(mail: Mail, value: str) -> None:
    await mail.add(note(f"with {value} in it"))
    await mail.add(note("plain"))

    assert await _found(mail, {"subject": value}) == {f"with {value} in it"}
    assert await _found(mail, {"text": value}) == {f"with {value} in it"}


async def test_attached_messages_and_html_are_searched_too(mail: Mail) -> None:
    inner = multipart(b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPHA+bmVlZGxlPC9wPg==")
    await mail.add(multipart(b"\r\nouter", b"Content-Type: message/rfc822\r\n\r\n" + inner, subject="hay"))

    assert await _found(mail, {"body": "Needle"}) == {"hay"}


async def test_a_search_pages_and_counts_like_a_list(mail: Mail) -> None:
    for number in range(5):
        await mail.add(note(f"Invoice {number}"))
    first = await mail.client.post(
        "/v1/me/messages/search?count=exact", json={"filter": {"text": "invoice"}, "sort": ["subject"], "limit": 3}
    )
    assert first.json()["total"] == 5
    second = await _search(
        mail, {"text": "invoice"}, sort=["subject"], limit=3, cursor=first.json()["next_cursor"], view="ids"
    )

    assert len(second["items"]) == 2
    assert second["next_cursor"] is None
    assert set(second["items"][0]) == {"view", "id"}


async def test_a_search_answers_again_whoever_knows_the_state(mail: Mail) -> None:
    await mail.add(note("Invoice"))
    known = await mail.client.post("/v1/me/messages/search", json={"filter": {"subject": "nothing"}})

    other = await mail.client.post(
        "/v1/me/messages/search",
        json={"filter": {"subject": "invoice"}},
        headers={"If-None-Match": known.headers["ETag"]},
    )

    assert (other.status_code, len(other.json()["items"])) == (200, 1)


@pytest.mark.parametrize(
    ("filter_", "pointer"),
    [
        ({"colour": "red"}, "/filter/colour"),
        ({"all": {"from": "x"}}, "/filter/all"),
        ({"all": [{"not": {"subject": 7}}]}, "/filter/all/0/not/subject"),
        ({"subject": ""}, "/filter/subject"),
        ({"text": "a\r\nx LOGOUT"}, "/filter/text"),
        ({"subject": "a\0b"}, "/filter/subject"),
        ({"keyword": "a b"}, "/filter/keyword"),
        ({"since": "soon"}, "/filter/since"),
        ({"larger_than": "7"}, "/filter/larger_than"),
        ({"has_attachments": "yes"}, "/filter/has_attachments"),
        ({"header": {"name": "a:b", "value": "x"}}, "/filter/header/name"),
        ({"any": [{"text": str(number)} for number in range(11)]}, "/filter"),
        ({"any": [{"subject": "x"}] * 201}, "/filter/any"),
        ({"any": [{"any": [{"subject": "x"}] * 150}] * 2}, "/filter"),
    ],
)
async def test_a_filter_that_makes_no_sense_points_at_its_fault(mail: Mail, filter_: Any, pointer: str) -> None:
    problem = await _search(mail, filter_, expected=422)

    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("depth", [25, 300, 5_000])
async def test_a_filter_nested_too_deep_is_refused(mail: Mail, depth: int) -> None:
    body = '{"filter":' + '{"not":' * depth + '{"subject":"x"}' + "}" * depth + "}"

    answer = await mail.client.post(
        "/v1/me/messages/search", content=body.encode(), headers={"Content-Type": "application/json"}
    )

    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00", "2026-13-01", "1767225600", "2026-01-01 00:00:00Z"])
async def test_a_time_without_an_offset_is_refused_for_it_means_no_moment(mail: Mail, time: str) -> None:
    searched = await _search(mail, {"since": time}, 422)
    listed = await mail.client.get("/v1/me/messages", params={"since": time})

    assert searched["errors"][0]["pointer"] == "/filter/since"
    assert (listed.status_code, listed.json()["errors"][0]["parameter"]) == (422, "since")


async def test_a_time_counts_in_its_own_offset(mail: Mail) -> None:
    await mail.add(note("Now"))

    assert len((await _search(mail, {"since": "2000-01-01T00:00:00+14:00"}))["items"]) == 1
    assert (await _search(mail, {"since": 1767225600}, 422))["errors"][0]["pointer"] == "/filter/since"


@pytest.mark.parametrize("fault", [{"fields": "nope"}, {"include": "nope"}, {"cursor": "nope"}])
async def test_a_fault_of_a_search_points_into_its_body(mail: Mail, fault: dict[str, str]) -> None:
    problem = await _search(mail, {}, 422, **fault)

    assert [one["pointer"] for one in problem["errors"]] == [f"/{next(iter(fault))}"]
