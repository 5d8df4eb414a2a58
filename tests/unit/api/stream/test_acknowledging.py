"""An acknowledgement counts for the consumer of its own subscription."""

from __future__ import annotations

from typing import cast

import pytest
from app.api.schemas.stream import AckFrame
from app.api.stream.following import Following
from app.api.stream.socket import StreamSocket
from app.api.stream.subscribing import Subscribing
from app.errors import InvalidRequest
from app.mail.types import AccountId, Position
from app.services.following.subscriptions import Subscription

from tests.access import ADMIN
from tests.gateway import Gateway


async def _subscribing(gateway: Gateway, account_id: AccountId, *consumers: str | None) -> Subscribing:
    socket, services = cast("StreamSocket", None), gateway.services
    following = Following(socket, services.events, services.states, services.accounts, services.turns, services.counts)
    for number, name in enumerate(consumers):
        subscription = Subscription(f"s{number}", False, {account_id: Position(0, 0)}, consumer=name)
        following.subscriptions[subscription.id] = subscription
    return Subscribing(socket, services, following)


async def _acknowledge(gateway: Gateway, subscribing: Subscribing, account_id: AccountId, sub_id: str | None) -> None:
    cursor = gateway.services.states.issue(account_id, Position(7, 0))
    await subscribing.acknowledge(AckFrame(type="ack", cursor=cursor, account_id=account_id, sub_id=sub_id), ADMIN)


async def test_an_acknowledgement_counts_for_its_own_subscription(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    subscribing = await _subscribing(gateway, account_id, "mine", "other", None)

    await _acknowledge(gateway, subscribing, account_id, "s0")

    places = [await gateway.services.consumers.place(account_id, ADMIN, name) for name in ("mine", "other")]
    assert places == [7, None]


async def test_an_acknowledgement_that_may_mean_several_consumers_is_refused(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    subscribing = await _subscribing(gateway, account_id, "mine", "other")

    for sub_id in (None, "unknown"):
        with pytest.raises(InvalidRequest) as refused:
            await _acknowledge(gateway, subscribing, account_id, sub_id)
        assert refused.value.faults[0].pointer == "/sub_id"


async def test_an_acknowledgement_needs_no_name_where_one_consumer_follows(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("ann@demo.test")
    subscribing = await _subscribing(gateway, account_id, None, "mine", "mine")

    await _acknowledge(gateway, subscribing, account_id, None)

    assert await gateway.services.consumers.place(account_id, ADMIN, "mine") == 7
