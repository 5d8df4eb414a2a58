"""Mailboxes of a subscription: by id, and by a role's name as everywhere else."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest
from app.api.schemas.stream import SubscribeFrame
from app.api.stream.following import Following
from app.api.stream.socket import StreamSocket
from app.api.stream.subscribing import Subscribing
from app.errors import MailboxNotFound
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
    other = await mail.gateway.house.add_account("other@demo.test")
    inboxes = {(await mail.gateway.house.mailbox(account)).id for account in (mail.account_id, other)}

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
