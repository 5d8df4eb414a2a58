"""Mailboxes of a subscription: by id, and by a role's name as everywhere else."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest
from app.api.problems import problem_of
from app.api.schemas.stream import SubscribeFrame
from app.api.stream.following import Following
from app.api.stream.socket import StreamSocket
from app.api.stream.subscribing import Subscribing
from app.errors import AccountNotFound, GatewayError, InvalidRequest, MailboxNotFound
from app.services.access.callers import Caller
from app.services.following.subscriptions import Subscription

from tests.access import ADMIN, caller
from tests.gateway import Gateway
from tests.unit.api.mail import Mail, note
from tests.unit.api.stream.test_following import RecordingSocket


async def _subscribed(gateway: Gateway, who: Caller = ADMIN, **members: Any) -> Subscription:
    services, socket = gateway.services, cast("StreamSocket", RecordingSocket())
    following = Following(socket, services.events, services.states, services.accounts, services.turns, services.counts)
    frame = SubscribeFrame.model_validate({"type": "subscribe", "sub_id": "s", "accounts": "*", **members})
    await Subscribing(socket, services, following).subscribe(frame, who)
    subscription = following.subscriptions["s"]
    following.close()
    return subscription


async def test_a_mailbox_is_named_by_its_role_or_its_id(mail: Mail) -> None:
    inbox, sent, archive = [await mail.mailbox_id(path) for path in ("INBOX", "Sent", "Archive")]

    subscription = await _subscribed(mail.gateway, mailboxes=["inbox", archive], roles=["sent"])

    assert subscription.mailboxes() == frozenset({inbox, sent, archive})


async def test_a_role_means_the_mailbox_of_each_account(mail: Mail) -> None:
    other = await mail.gateway.harness.add_account("other@demo.test")
    inboxes = {(await mail.gateway.harness.mailbox(account)).id for account in (mail.account_id, other)}

    assert (await _subscribed(mail.gateway, mailboxes=["inbox"])).mailboxes() == frozenset(inboxes)


async def test_a_subscription_to_a_role_wants_what_happens_in_its_mailbox_alone(mail: Mail) -> None:
    subscription = await _subscribed(mail.gateway, mailboxes=["inbox"])
    begin = await mail.gateway.services.events.position(mail.account_id)
    for path in ("INBOX", "Archive"):
        await mail.add(note(path), path)

    events = (await mail.gateway.services.events.after(mail.account_id, begin)).events

    wanted = [orjson.loads(event.body)["data"]["message"]["subject"] for event in events if subscription.wants(event)]
    assert wanted == ["INBOX"]


@pytest.mark.parametrize("name", ["inbox", "mbx_unknown"])
async def test_a_mailbox_that_the_caller_does_not_see_is_not_found_by_role_or_id(mail: Mail, name: str) -> None:
    limited = caller(mailbox_ids=frozenset({await mail.mailbox_id("Archive")}))

    with pytest.raises(MailboxNotFound):
        await _subscribed(mail.gateway, limited, mailboxes=[name])


async def test_a_role_that_no_mailbox_has_may_be_subscribed_to_before_there_is_one(mail: Mail) -> None:
    limited = caller(mailbox_ids=frozenset({await mail.mailbox_id("Archive")}))

    assert (await _subscribed(mail.gateway, limited, roles=["inbox"])).roles == {"inbox"}


@pytest.mark.parametrize(
    ("members", "code", "pointer"),
    [
        ({"mailboxes": ["inbox", "mbx_unknown"]}, "mailbox_not_found", "/mailboxes/1"),
        ({"mailboxes": ["all"]}, "mailbox_not_found", "/mailboxes/0"),
        ({"accounts": ["acc_unknown"]}, "account_not_found", "/accounts/0"),
        ({"accounts": ["me"]}, "account_not_found", "/accounts/0"),
        ({"after": "yesterday"}, "invalid_request", "/after"),
        ({"roles": ["sent", "inbx"]}, "invalid_request", "/roles/1"),
        ({"types": ["message.create"]}, "invalid_request", "/types/0"),
    ],
)
async def test_what_is_wrong_with_a_subscription_is_pointed_at(
    mail: Mail, members: dict[str, Any], code: str, pointer: str
) -> None:
    with pytest.raises(GatewayError) as refused:
        await _subscribed(mail.gateway, **members)

    problem = problem_of(refused.value)
    assert (problem["code"], [fault["pointer"] for fault in problem["errors"]]) == (code, [pointer])
    assert pointer in problem["detail"] or f"`{pointer.rpartition('/')[2]}`" in problem["detail"]


async def test_a_wrong_cursor_in_a_map_is_pointed_at_by_its_account(mail: Mail) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await _subscribed(mail.gateway, after={mail.account_id: "yesterday"})

    assert refused.value.faults[0].pointer == f"/after/{mail.account_id}"


async def test_an_account_that_a_limited_token_lacks_is_pointed_at(mail: Mail) -> None:
    other = await mail.gateway.harness.add_account("other@demo.test")

    with pytest.raises(AccountNotFound) as refused:
        await _subscribed(mail.gateway, caller(account_ids=frozenset({mail.account_id})), accounts=["me", other])

    assert refused.value.faults[0].pointer == "/accounts/1"
