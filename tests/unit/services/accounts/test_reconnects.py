from __future__ import annotations

import asyncio
from typing import cast

from app.cause import Cause, caused_by, current_cause
from app.cluster.bus import ACCOUNTS, LocalBus, Waiter
from app.mail.backend import Backends
from app.mail.types import AccountId
from app.services.accounts.reconnects import Reconnects


class ForgettingBackends:
    """Backends that note for which request they forget an account."""

    def __init__(self) -> None:
        self.causes: list[Cause | None] = []

    async def forget(self, account_id: AccountId) -> None:
        self.causes.append(current_cause())


async def test_a_restart_belongs_to_no_request_because_it_may_outlive_the_one_that_began_it() -> None:
    backends, bus, waiter = ForgettingBackends(), LocalBus(), Waiter()
    bus.listen(waiter, ACCOUNTS)
    restarts = Reconnects(cast(Backends, backends), bus)

    with caused_by(Cause("req_1")):
        restarts.begin(AccountId("acc_1"))
        await restarts.wait(AccountId("acc_1"))
        assert current_cause() == Cause("req_1")

    assert backends.causes == [None]
    assert await asyncio.wait_for(waiter.wait(5), 5) == {ACCOUNTS}
