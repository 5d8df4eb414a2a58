"""Threads over the API: lists, one, changes of the whole, and what a token may see of them."""

from __future__ import annotations

from typing import Any

import httpx2
from app.services.access.callers import Scope

from tests.unit.api.mail import EVERYTHING, Mail, note

THREADS = "/v1/me/threads"


async def conversation(mail: Mail, name: str, *paths: str, at: int = 0) -> list[str]:
    """A message in each of these mailboxes, each an answer to the first; their ids."""
    ids = []
    for number, path in enumerate(paths):
        headers = [f"References: <{name}-0@elsewhere.test>"] if number else []
        subject = f"{name} {number}" if not number else f"Re: {name} {number}"
        content = note(subject, f"Text {number}", *headers).replace(
            f"<{subject.replace(' ', '-')}@".encode(), f"<{name}-{number}@".encode()
        )
        ids.append(await mail.add(content, path, received_at_ms=(at + number) * 1000))
    return ids


async def threads(client: httpx2.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await client.get(THREADS, params=parameters)
    assert answer.status_code == 200, answer.text
    listed: dict[str, Any] = answer.json()
    return listed


async def limited(mail: Mail, *paths: str) -> httpx2.AsyncClient:
    mailbox_ids = tuple([await mail.mailbox_id(path) for path in paths])
    return mail.gateway.client(await mail.gateway.token(mail.account_id, scopes=EVERYTHING, mailbox_ids=mailbox_ids))


async def test_threads_are_listed_by_their_newest_message_and_sum_up_their_messages(mail: Mail) -> None:
    old = await conversation(mail, "old", "INBOX", "Archive", at=10)
    new = await conversation(mail, "new", "INBOX", at=20)
    revived = await mail.add(note("Re: old", "Latest", "References: <old-0@elsewhere.test>"), received_at_ms=30_000)
    await mail.client.patch(f"/v1/me/messages/{old[0]}", json={"keywords": {"add": ["$seen", "$flagged"]}})

    listed = (await threads(mail.client))["items"]

    assert [one["message_ids"] for one in listed] == [[*old, revived], new]
    first = listed[0]
    assert (first["subject"], first["message_count"], first["unread_count"]) == ("old 0", 3, 2)
    assert set(first["mailbox_ids"]) == {await mail.mailbox_id(), await mail.mailbox_id("Archive")}
    assert first["keywords"] == ["$flagged", "$seen"]
    assert first["participants"] == [{"name": "Ann", "address": "ann@elsewhere.test"}]
    assert (first["oldest_received_at"], first["newest_received_at"]) == (
        "1970-01-01T00:00:10Z",
        "1970-01-01T00:00:30Z",
    )
    assert first["preview"] == "Latest"


async def test_pages_of_threads_show_each_once_in_both_directions(mail: Mail) -> None:
    for number in range(5):
        await conversation(mail, f"t{number}", "INBOX", "INBOX", at=10 * number)
    whole = [one["id"] for one in (await threads(mail.client))["items"]]

    forth: list[str] = []
    back: list[str] = []
    cursor = None
    while True:
        page = await threads(mail.client, limit=2, **({"cursor": cursor} if cursor else {}))
        forth += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    cursor = page["prev_cursor"]
    while cursor is not None:
        page = await threads(mail.client, limit=2, cursor=cursor)
        back = [one["id"] for one in page["items"]] + back
        cursor = page["prev_cursor"]

    assert len(whole) == len(set(whole)) == 5
    assert forth == whole
    assert back == whole[:4]


async def test_a_list_of_threads_has_those_with_a_message_that_matches(mail: Mail) -> None:
    both = await conversation(mail, "both", "INBOX", "Archive", at=10)
    await conversation(mail, "inbox", "INBOX", at=20)
    archive = await mail.mailbox_id("Archive")

    by_mailbox = (await threads(mail.client, mailbox_id=archive))["items"]
    by_text = (await threads(mail.client, subject="both 1"))["items"]

    assert [one["message_ids"] for one in by_mailbox] == [both]
    assert by_text == by_mailbox


async def test_a_list_of_threads_counts_those_with_a_message_that_matches_of_which_it_shows_many(mail: Mail) -> None:
    for number in range(60):
        await conversation(mail, f"t{number}", *["INBOX", "Archive"][: 1 + number % 2], at=10 * number)
    archive = await mail.mailbox_id("Archive")

    whole = await threads(mail.client, limit=500, count="exact")
    some = await threads(mail.client, mailbox_id=archive, limit=3, count="estimate")

    assert (whole["total"], len({one["id"] for one in whole["items"]})) == (60, 60)
    assert (some["total"], len(some["items"])) == (30, 3)
    assert (await threads(mail.client))["total"] is None


async def test_threads_have_one_order_and_say_so(mail: Mail) -> None:
    assert (await mail.client.get(THREADS, params={"sort": "-received_at"})).status_code == 200
    for other in ("subject", "received_at", "sideways"):
        refused = await mail.client.get(THREADS, params={"sort": other})
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "sort")


async def test_a_list_of_threads_that_is_known_is_not_sent_again(mail: Mail) -> None:
    await conversation(mail, "one", "INBOX")
    first = await mail.client.get(THREADS)
    again = await mail.client.get(THREADS, headers={"If-None-Match": first.headers["etag"]})
    await conversation(mail, "two", "INBOX")
    changed = await mail.client.get(THREADS, headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["etag"] == f'"{first.json()["state"]}"'
    assert (again.status_code, changed.status_code) == (304, 200)


async def test_a_thread_shows_its_messages_oldest_first_also_by_the_id_of_one_that_joined_it(mail: Mail) -> None:
    a, b = [(await conversation(mail, name, "INBOX", at=at))[0] for name, at in (("a", 1), ("b", 2))]
    first, second = [(await mail.get(f"/{id_}"))["thread_id"] for id_ in (a, b)]
    c = await mail.add(note("c", "x", "References: <a-0@elsewhere.test> <b-0@elsewhere.test>"), received_at_ms=3000)

    by_new, by_old = [await mail.client.get(f"{THREADS}/{id_}") for id_ in (first, second)]

    assert by_new.json()["id"] == first
    assert [one["id"] for one in by_new.json()["messages"]] == by_new.json()["message_ids"] == [a, b, c]
    assert by_new.json() == by_old.json()
    assert {one["thread_id"] for one in by_new.json()["messages"]} == {first}
    known = await mail.client.get(f"{THREADS}/{first}", headers={"If-None-Match": by_new.headers["etag"]})
    assert known.status_code == 304


async def test_a_merge_is_told_in_the_difference_since_a_state(mail: Mail) -> None:
    _, b = [(await conversation(mail, name, "INBOX", at=at))[0] for name, at in (("a", 1), ("b", 2))]
    state = (await mail.get())["state"]
    await mail.add(note("c", "x", "References: <a-0@elsewhere.test> <b-0@elsewhere.test>"))

    changes = (await mail.client.get("/v1/me/changes", params={"since": state})).json()

    assert [(one["id"], one["changed"]) for one in changes["updated"]] == [(b, ["other"])]


async def test_a_change_of_a_thread_changes_every_message_of_it(mail: Mail) -> None:
    ids = await conversation(mail, "one", "INBOX", "Archive")
    other = await conversation(mail, "two", "INBOX")
    thread = (await mail.get(f"/{ids[0]}"))["thread_id"]
    work = await mail.mailbox_id("Junk")

    answer = await mail.client.patch(f"{THREADS}/{thread}", json={"keywords": {"add": ["$seen"]}, "mailbox_id": work})

    assert answer.status_code == 200, answer.text
    assert {one["id"] for one in answer.json()["results"]} == set(ids)
    assert answer.json()["summary"] == {"ok": 2, "failed": 0}
    for id_ in ids:
        message = await mail.get(f"/{id_}")
        assert (message["mailbox_ids"], message["keywords"]) == ([work], ["$seen"])
    assert (await mail.get(f"/{other[0]}"))["keywords"] == []


async def test_a_thread_goes_to_trash_and_then_for_good(mail: Mail) -> None:
    ids = await conversation(mail, "one", "INBOX", "Archive")
    path = f"{THREADS}/{(await mail.get(f'/{ids[0]}'))['thread_id']}"

    await mail.client.delete(path)
    trashed = (await mail.client.get(path)).json()
    answer = await mail.client.delete(path, params={"permanent": "true"})
    gone = await mail.client.get(path)

    assert trashed["mailbox_ids"] == [await mail.mailbox_id("Trash")]
    assert answer.json()["summary"] == {"ok": 2, "failed": 0}
    assert (gone.status_code, gone.json()["code"]) == (404, "thread_not_found")


async def test_a_token_sees_and_changes_of_a_thread_what_is_in_its_mailboxes(mail: Mail) -> None:
    seen, hidden = await conversation(mail, "one", "INBOX", "Archive", at=1)
    (secret,) = await conversation(mail, "secret", "Archive", at=5)
    thread, other = [(await mail.get(f"/{id_}"))["thread_id"] for id_ in (seen, secret)]
    client = await limited(mail, "INBOX")

    listed = await client.get(THREADS)
    one = (await client.get(f"{THREADS}/{thread}")).json()
    changed = await client.patch(f"{THREADS}/{thread}", json={"keywords": {"add": ["$flagged"]}})
    calls = [client.get(f"{THREADS}/{other}"), client.delete(f"{THREADS}/{other}")]
    calls.append(client.patch(f"{THREADS}/{other}", json={"keywords": {"add": ["$seen"]}}))

    assert [(found["id"], found["message_ids"]) for found in listed.json()["items"]] == [(thread, [seen])]
    assert (one["message_count"], one["unread_count"], one["message_ids"]) == (1, 1, [seen])
    assert await mail.mailbox_id("Archive") not in listed.text
    assert [result["id"] for result in changed.json()["results"]] == [seen]
    assert (await mail.get(f"/{hidden}"))["keywords"] == []
    assert [(await call).status_code for call in calls] == [404, 404, 404]


async def test_a_token_is_told_of_threads_in_its_mailboxes_alone(mail: Mail) -> None:
    await conversation(mail, "one", "INBOX", "INBOX", at=1)
    await conversation(mail, "secret", "Archive", "Archive", at=5)
    inbox = await mail.mailbox_id()
    client = mail.gateway.client(
        await mail.gateway.token(mail.account_id, scopes=(Scope.MAIL_READ,), mailbox_ids=(inbox,))
    )

    told = (await client.get("/v1/me/events")).json()["items"]
    everything = (await mail.client.get("/v1/me/events")).json()["items"]

    subjects = [one["subject"] for one in everything if one["type"] == "thread.updated"]
    assert len(subjects) == 2
    assert [one["subject"] for one in told if one["type"] == "thread.updated"] == subjects[:1]
