"""What one who sees some mailboxes is told of messages that are in several."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest
from app.mail.event_log import Event
from app.mail.types import AccountId
from app.mailstore.reader import MailReader
from app.services.access.visibility import as_seen, mailboxes_of, seen_summary
from app.services.following.subscriptions import Subscription

from tests.access import NoSubmissions, caller

NO_READER = cast("MailReader", None)
ACCOUNT = AccountId("acc_1")


def event(type_: str, data: dict[str, Any], mailbox_id: str, target: str | None = None) -> Event:
    body = {"id": "evt_1", "type": type_, "subject": "msg_1", "data": {"account_id": ACCOUNT, **data}}
    return Event(ACCOUNT, 7, type_, "msg_1", mailbox_id, 3, target, 4 if target else None, 0, orjson.dumps(body))


def moved(before: list[str], after: list[str]) -> Event:
    facts = {"message_id": "msg_1", "from": before, "to": after}
    return event("message.moved", facts, before[0], after[0])


def data_of(seen: Event | None) -> dict[str, Any]:
    assert seen is not None
    data: dict[str, Any] = orjson.loads(seen.body)["data"]
    return data


async def seen(one: Event, visible: set[str]) -> Event | None:
    return await as_seen(NO_READER, NoSubmissions(), one, caller(mailbox_ids=frozenset(visible)))


async def test_a_change_of_labels_out_of_sight_is_not_told() -> None:
    assert await seen(moved(["mbx_a", "mbx_x"], ["mbx_a", "mbx_y"]), {"mbx_a"}) is None
    assert await seen(moved(["mbx_x"], ["mbx_y"]), {"mbx_a"}) is None


async def test_a_change_of_labels_in_sight_names_those_in_sight_alone() -> None:
    told = await seen(moved(["mbx_a", "mbx_x"], ["mbx_a", "mbx_b", "mbx_y"]), {"mbx_a", "mbx_b"})

    assert data_of(told) == {
        "account_id": ACCOUNT,
        "message_id": "msg_1",
        "from": ["mbx_a"],
        "to": ["mbx_a", "mbx_b"],
    }


async def test_a_change_of_labels_that_is_all_in_sight_is_told_as_it_is() -> None:
    one = moved(["mbx_a"], ["mbx_a", "mbx_b"])

    assert await seen(one, {"mbx_a", "mbx_b", "mbx_c"}) is one


async def test_new_flags_are_told_of_whichever_mailbox_is_in_sight() -> None:
    facts = {"mailbox_id": "mbx_x", "message_id": "msg_1", "changed": ["keywords"], "keywords": ["$seen"]}
    one = event("message.updated", {**facts, "mailbox_ids": ["mbx_a", "mbx_x"]}, "mbx_x")

    told = data_of(await seen(one, {"mbx_a"}))

    assert (told["mailbox_id"], told["mailbox_ids"], told["keywords"]) == ("mbx_a", ["mbx_a"], ["$seen"])
    assert await seen(one, {"mbx_b"}) is None
    assert await seen(event("message.updated", facts, "mbx_x"), {"mbx_a"}) is None


@pytest.mark.parametrize("visible", [None, {"mbx_a", "mbx_b"}])
def test_a_summary_that_hides_nothing_stays_as_it_is(visible: set[str] | None) -> None:
    summary = b'{"id":"msg_1","mailbox_ids":["mbx_a"]}'

    assert seen_summary(summary, visible) is summary


def test_a_summary_shows_the_mailboxes_in_sight() -> None:
    assert orjson.loads(seen_summary(b'{"id":"msg_1","mailbox_ids":["mbx_a","mbx_x"]}', {"mbx_a"}))["mailbox_ids"] == [
        "mbx_a"
    ]


def test_a_subscription_to_a_mailbox_hears_of_all_that_are_in_it() -> None:
    one = moved(["mbx_x", "mbx_a"], ["mbx_x", "mbx_a", "mbx_y"])
    subscription = Subscription("s1", False, {}, mailbox_ids=frozenset({"mbx_a"}))

    assert mailboxes_of(one) == {"mbx_a", "mbx_x", "mbx_y"}
    assert subscription.wants(one)
    assert not subscription.wants(moved(["mbx_x"], ["mbx_y"]))
