"""Large providers that have had enough of an account for now: it rests, and goes on where it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from app.mail.types import AccountId

from tests.harness import Harness, open_harness
from tests.servers import providers
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.providers import Provider
from tests.sync_harness import Followed, add_remote_account, mail, plain_backend

NOT_CONNECTED = "BAD User is authenticated but not connected."
LIMITS = [
    pytest.param(
        providers.MICROSOFT_365, {"refusals": dict.fromkeys(("SELECT", "EXAMINE"), NOT_CONNECTED)}, id="microsoft"
    ),
    pytest.param(providers.YAHOO, {"refusals": {"UID FETCH": "NO [LIMIT] UID FETCH Rate limit hit."}}, id="yahoo"),
    pytest.param(providers.ICLOUD, {"limit": 0, "too_many": "[ALERT] Too many concurrent connections"}, id="icloud"),
]
"""How each says it: of a mailbox, of a command, of a connection."""


@asynccontextmanager
async def following(harness: Harness, account_id: AccountId, port: int, user: DovecotUser) -> AsyncIterator[Followed]:
    """Follow the account during the block, on connections of its own."""
    backend = plain_backend(account_id, harness, port, user)
    followed = Followed(harness, account_id, backend)
    try:
        async with followed.following():
            yield followed
    finally:
        await backend.close()


@pytest.mark.parametrize(("provider", "limits"), LIMITS)
async def test_an_account_that_its_provider_limits_is_throttled_and_goes_on_where_it_was(
    provider: Provider, limits: dict[str, Any], dovecot: Dovecot, tmp_path: Path
) -> None:
    user = dovecot.add_user()
    for number in range(3):
        dovecot.deliver(mail(f"n{number}"), user.name)
    async with providers.running(provider, dovecot.imap_port) as proxy, open_harness(tmp_path) as harness:
        account_id = await add_remote_account(harness, user.name)
        usual = {name: getattr(proxy, name) for name in limits}
        async with following(harness, account_id, proxy.port, user) as followed:
            await followed.until_live()
            before = await followed.ids()
        dovecot.deliver(mail("meanwhile"), user.name)

        vars(proxy).update(limits)
        async with following(harness, account_id, proxy.port, user) as followed:
            await followed.until(followed.state, ("unreachable", "down"))
            assert (await followed.told("account."))[-1] == "account.throttled"
            assert await followed.ids() == before

        vars(proxy).update(usual)
        async with following(harness, account_id, proxy.port, user) as followed:
            await followed.until_live()
            await followed.until(followed.subjects, ["n0", "n1", "n2", "meanwhile"])
            assert (await followed.ids())[:3] == before
