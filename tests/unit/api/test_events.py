"""Events and changes as callers are told of them, each within its sight."""

from __future__ import annotations

from typing import Any

import httpx2
from app.services.callers import Scope

from tests.unit.api.mail import Mail, note


async def _limited(mail: Mail) -> httpx2.AsyncClient:
    """A client that sees INBOX alone."""
    inbox = await mail.mailbox_id()
    return mail.gateway.client(
        await mail.gateway.token(mail.account_id, scopes=(Scope.MAIL_READ, Scope.PUSH), mailbox_ids=(inbox,))
    )


async def _move(mail: Mail, id_: str, path: str) -> None:
    answer = await mail.client.patch(f"/v1/me/messages/{id_}", json={"mailbox_id": await mail.mailbox_id(path)})
    assert answer.status_code == 200


async def _told(client: httpx2.AsyncClient, state: str) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Events and changes after a state, and all of it as text."""
    events = await client.get("/v1/me/events", params={"after": state})
    changes = await client.get("/v1/me/changes", params={"since": state})
    return events.json()["items"], changes.json(), events.text + changes.text


async def test_a_message_that_goes_out_of_a_tokens_sight_has_ended_for_it(mail: Mail) -> None:
    id_ = await mail.add(note("Secret plans"))
    state = (await mail.get())["state"]
    await _move(mail, id_, "Archive")

    events, changes, text = await _told(await _limited(mail), state)

    inbox, stored = await mail.mailbox_id(), {"uid": 1, "uid_validity": events[0]["data"]["uid_validity"]}
    assert [(one["type"], one["subject"]) for one in events] == [("message.deleted", id_)]
    assert events[0]["data"] == {
        "account_id": mail.account_id,
        "message_id": id_,
        "mailbox_id": inbox,
        **stored,
        "reason": "moved",
    }
    assert (changes["removed"], changes["moved"]) == ([{"id": id_, "reason": "moved"}], [])
    assert await mail.mailbox_id("Archive") not in text


async def test_a_message_that_comes_into_a_tokens_sight_begins_for_it(mail: Mail) -> None:
    id_ = await mail.add(note("Plans"), "Archive")
    state = (await mail.get())["state"]
    await _move(mail, id_, "INBOX")

    events, changes, text = await _told(await _limited(mail), state)

    assert [one["type"] for one in events] == ["message.created"]
    assert events[0]["data"]["mailbox_id"] == await mail.mailbox_id()
    assert events[0]["data"]["message"] == await mail.get(f"/{id_}")
    assert (changes["created"], changes["moved"]) == ([{"id": id_}], [])
    assert await mail.mailbox_id("Archive") not in text


async def test_a_message_that_came_and_went_again_shows_a_token_nothing_of_where_it_is(mail: Mail) -> None:
    id_ = await mail.add(note("Plans"), "Archive")
    state = (await mail.get())["state"]
    await _move(mail, id_, "INBOX")
    await _move(mail, id_, "Trash")

    events, changes, text = await _told(await _limited(mail), state)

    assert [one["type"] for one in events] == ["message.deleted"]
    assert changes["created"] == []
    assert await mail.mailbox_id("Trash") not in text


async def test_a_mailbox_whose_messages_changed_is_told_with_its_new_numbers(mail: Mail) -> None:
    id_ = await mail.add(note("Plans"))
    state = (await mail.get())["state"]
    await _move(mail, id_, "Archive")

    changes = (await mail.client.get("/v1/me/changes", params={"since": state})).json()

    numbers = {one["path"]: (one["total"], one["unread"]) for one in changes["mailboxes"]["updated"]}
    assert numbers == {"INBOX": (0, 0), "Archive": (1, 1)}
    assert changes["moved"] == [
        {"id": id_, "from": [await mail.mailbox_id()], "to": [await mail.mailbox_id("Archive")]}
    ]
