"""Events and changes as callers are told of them, each within its sight."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import httpx2
import orjson
from app.api.stream.server_sent import ServerSentEvents
from app.db.session import Statement, Transaction
from app.db.tables import EVENT
from app.errors import TokenRevoked
from app.mail.delta import Delta, MailboxReset
from app.services.access.callers import Scope
from app.services.following.counts import counts_topic
from sqlalchemy import bindparam, update

from tests.unit.api.mail import Mail, note

_SET_BODY: Statement = update(EVENT).where(EVENT.c.type == "message.created").values(body=bindparam("body"))


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
    items = events.json()["items"]
    for event in items:
        event["data"].pop("caused_by", None)
    return items, changes.json(), events.text + changes.text


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
    assert (changes["created"], changes["moved"]) == ([{"view": "ids", "id": id_}], [])
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


async def _reset(mail: Mail, path: str) -> str:
    """Another UIDVALIDITY for a mailbox, which loses all in it; its id."""
    mailbox = await mail.gateway.harness.mailbox(mail.account_id, path)
    reset = MailboxReset(mailbox.id, mailbox.uid_validity + 1)
    await mail.gateway.harness.index.apply(mail.account_id, Delta(mailboxes_reset=(reset,)))
    return mailbox.id


async def test_a_mailbox_that_cannot_be_answered_is_named_and_the_others_go_on(mail: Mail) -> None:
    await mail.add(note("Lost"), "Archive")
    kept = await mail.add(note("Kept"))
    state = (await mail.get())["state"]
    archive = await _reset(mail, "Archive")
    new = await mail.add(note("New"))
    await mail.client.patch(f"/v1/me/messages/{kept}", json={"keywords": {"add": ["$seen"]}})

    refused = await mail.client.get("/v1/me/changes", params={"since": state})
    changes = (await mail.client.get("/v1/me/changes", params={"since": state, "except": archive})).json()
    after = await mail.client.get("/v1/me/changes", params={"since": changes["new_state"]})

    assert (refused.status_code, refused.json()["code"]) == (410, "state_expired")
    assert refused.json()["mailbox_ids"] == [archive]
    assert (changes["created"], [one["id"] for one in changes["updated"]]) == ([{"view": "ids", "id": new}], [kept])
    assert archive in [one["id"] for one in changes["mailboxes"]["updated"]]
    assert (after.status_code, after.json()["created"]) == (200, [])


async def test_a_mailbox_out_of_a_tokens_sight_is_not_named_as_unanswerable(mail: Mail) -> None:
    state = (await mail.get())["state"]
    archive = await _reset(mail, "Archive")

    answer = await (await _limited(mail)).get("/v1/me/changes", params={"since": state})

    assert answer.status_code == 200
    assert archive not in answer.text


async def test_a_message_that_leaves_an_excepted_mailbox_is_told_as_new(mail: Mail) -> None:
    id_ = await mail.add(note("Plans"), "Archive")
    state = (await mail.get())["state"]
    await _move(mail, id_, "INBOX")

    params = {"since": state, "except": await mail.mailbox_id("Archive")}
    left = (await mail.client.get("/v1/me/changes", params=params)).json()
    params["except"] = await mail.mailbox_id("INBOX")
    entered = (await mail.client.get("/v1/me/changes", params=params)).json()

    assert (left["created"], left["removed"], left["moved"]) == ([{"view": "ids", "id": id_}], [], [])
    assert (entered["created"], entered["removed"]) == ([], [{"id": id_, "reason": "moved"}])


async def test_what_was_created_is_shown_in_the_view_that_was_asked_for_part_by_part(mail: Mail) -> None:
    since = (await mail.get())["state"]
    ids = [await mail.add(note(f"Note {number}", f"Text {number}")) for number in range(120)]

    texts: dict[str, str] = {}
    has_more, answers = True, 0
    while has_more:
        answer = (await mail.client.get("/v1/me/changes", params={"since": since, "view": "full"})).json()
        texts |= {one["id"]: one["text"].strip() for one in answer["created"]}
        since, has_more, answers = answer["new_state"], answer["has_more"], answers + 1

    assert texts == {id_: f"Text {number}" for number, id_ in enumerate(ids)}
    assert answers == 2


async def test_an_event_names_the_request_and_the_client_that_caused_it(mail: Mail) -> None:
    id_ = await mail.add(note("Plans"))
    state = (await mail.get())["state"]
    path, body = f"/v1/me/messages/{id_}", {"keywords": {"add": ["$flagged"]}}

    changed = await mail.client.patch(path, json=body, headers={"Client-Id": "tab-1"})
    await mail.client.patch(path, json={"mailbox_id": await mail.mailbox_id("Archive")})
    arrived = await mail.add(note("Unasked"))

    events = (await mail.client.get("/v1/me/events", params={"after": state})).json()["items"]
    causes = [event["data"].get("caused_by") for event in events if event["type"].startswith("message.")]
    assert [event["subject"] for event in events][-1] == arrived
    assert causes[0] == {"request_id": changed.headers["Request-Id"], "client_id": "tab-1"}
    assert causes[1] is not None
    assert causes[1]["client_id"] is None
    assert causes[-1] is None


async def test_a_token_that_sees_ids_alone_still_knows_its_own_change(mail: Mail) -> None:
    id_ = await mail.add(note("Plans"))
    state = (await mail.get())["state"]
    body = {"keywords": {"add": ["$flagged"]}}
    await mail.client.patch(f"/v1/me/messages/{id_}", json=body, headers={"Client-Id": "tab-1"})
    client = mail.gateway.client(await mail.gateway.token(mail.account_id, scopes=(Scope.PUSH,)))

    [event] = (await client.get("/v1/me/events", params={"after": state})).json()["items"]

    assert event["data"]["caused_by"]["client_id"] == "tab-1"


def _event_stream(mail: Mail) -> ServerSentEvents:
    services = mail.gateway.services
    return ServerSentEvents(services.events, services.states, services.access, services.counts)


async def _server_sent_counts(mail: Mail, **limits: Any) -> list[dict[str, Any]]:
    """The counts that an event stream begins with, read until the event that follows them."""
    services = mail.gateway.services
    begin = await services.events.position(mail.account_id)
    reader = await services.tokens.authenticate(await mail.gateway.token(mail.account_id, **limits), None)
    found: list[dict[str, Any]] = []
    async with aclosing(_event_stream(mail).stream(mail.account_id, reader, begin)) as pieces:
        assert await anext(pieces) == b": postgate\n\n"
        async for piece in pieces:
            assert b"id:" not in piece
            assert piece.startswith(b"event: counts\ndata: ")
            found.append(orjson.loads(piece.removeprefix(b"event: counts\ndata: ")))
            break
    return found


async def test_an_event_stream_has_counts_without_an_id_that_name_the_mailboxes_in_sight(mail: Mail) -> None:
    inbox = await mail.mailbox_id()
    await mail.add(note("Plans"))

    [counts] = await _server_sent_counts(mail, mailbox_ids=(inbox,))

    mailboxes = [{"mailbox_id": inbox, "unread": 1, "total": 1}]
    assert counts == {"type": "counts", "account_id": mail.account_id, "mailboxes": mailboxes}


async def test_an_event_stream_that_ends_is_not_counted_any_more(mail: Mail) -> None:
    await _server_sent_counts(mail)

    assert mail.gateway.services.counts.news.heard() == {}


async def test_a_token_that_ends_as_counts_come_is_sent_no_more_counts(mail: Mail) -> None:
    services = mail.gateway.services
    reader = await services.tokens.authenticate(await mail.gateway.token(mail.account_id), None)
    begin = await services.events.position(mail.account_id)
    async with aclosing(_event_stream(mail).stream(mail.account_id, reader, begin)) as pieces:
        assert [await anext(pieces), (await anext(pieces))[:13]] == [b": postgate\n\n", b"event: counts"]
        waiting = asyncio.ensure_future(anext(pieces))
        while not waiting.done():
            await asyncio.sleep(0)
            for guard in list(services.access._guards):
                guard.end(TokenRevoked())
                guard.waiter.poke(counts_topic(mail.account_id))

        assert (await waiting).startswith(b"event: error\ndata: ")


async def test_a_long_poll_has_events_and_no_counts(mail: Mail) -> None:
    state = (await mail.get())["state"]
    await mail.add(note("Plans"))

    answer = await mail.client.get("/v1/me/events", params={"after": state})

    assert {event["type"] for event in answer.json()["items"]} == {"message.created"}


async def test_a_message_in_an_event_that_was_logged_before_views_had_names_is_a_summary(mail: Mail) -> None:
    state = (await mail.get())["state"]
    await mail.add(note("Old"))
    items = (await _told(mail.client, state))[0]
    untyped = orjson.dumps(items[0]).replace(b'"view":"summary",', b"")

    async def work(transaction: Transaction) -> None:
        await transaction.execute(_SET_BODY, body=untyped)

    await mail.gateway.harness.database.write(work)

    [event] = (await _told(mail.client, state))[0]
    assert event["data"]["message"]["view"] == "summary"
    assert event == items[0]
