"""A POP3 server whose answers are spoilt at random: no account is down for ever, and no mail is hidden."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from app.backends.pop3 import connection, opening, refusals
from app.cluster.bus import listening
from app.mailstore.pop3_ledger import Pop3Ledger, Pop3State
from app.workers.pop3 import account as account_module
from app.workers.pop3 import patience
from app.workers.pop3.account import Pop3Sync

from tests.pop3_harness import Polled, open_polled
from tests.servers.mutating_proxy import MutatingProxy
from tests.servers.scripted_pop3 import ScriptedPop3
from tests.sync_harness import mail

SEEDS = int(os.environ.get("POSTGATE_TEST_SEEDS", "8"))
"""Each takes some seconds; a soak runs thousands."""
PATIENCE_SECONDS = 20.0
SPOILT_SECONDS = 1.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls come at once, and a line that was dropped is missed soon."""
    monkeypatch.setattr(connection, "REPLY_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(connection, "LIST_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(opening, "LOGIN_TIMEOUT_SECONDS", 0.6)
    monkeypatch.setattr(refusals, "IN_USE_SECONDS", 0.05)
    monkeypatch.setattr(account_module, "SHORTEST_SECONDS", 0.05)
    monkeypatch.setattr(account_module, "LONGEST_SECONDS", 0.1)
    monkeypatch.setattr(account_module, "ASKED_SECONDS", 0.02)
    monkeypatch.setattr(patience, "SHORTEST_SECONDS", 0.1)
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.2)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_maildrop_whose_server_spoke_nonsense_comes_with_all_its_mail(tmp_path: Path, seed: int) -> None:
    capabilities = ("USER", "UIDL", "TOP", "RESP-CODES", "AUTH-RESP-CODE", *(("PIPELINING",) if seed % 2 else ()))
    server = ScriptedPop3([(f"id-{number}", mail(f"m{number}")) for number in range(8)], capabilities=capabilities)
    async with server.serving() as login:
        proxy = MutatingProxy(login.port, seed, spoil=(0.01, 0.03, 0.06, 0.1)[seed % 4], others=1.0)
        async with proxy.serving() as port, open_polled(tmp_path, login) as account:
            spoilt = type(login)(login.host, port, login.security, login.username, login.password)
            account.begin_anew(login=spoilt)
            assert account.pop3 is not None
            worker = Pop3Sync(
                account.account_id, account.harness.index, account.harness.reader, account.pop3, account.epoch
            )
            task = asyncio.create_task(worker.run())
            try:
                await asyncio.sleep(SPOILT_SECONDS)
                server.messages.append(("id-new", mail("new")))
                proxy.be_honest()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    with listening(account.harness.bus, account.account_id) as waiter:
                        while await hidden(account, server) or await account.state() != ("ready", "live"):
                            assert not task.done(), "nobody asks for the account any more"
                            await waiter.wait(0.05)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def hidden(account: Polled, server: ScriptedPop3) -> set[str]:
    """Unique ids of messages on the server that are not here whole."""
    harness = account.harness
    lines = await Pop3Ledger(harness.database, harness.index, harness.bus, account.account_id, account.epoch).rows()
    whole = {key.uidl for key, line in lines.items() if line.state is Pop3State.STORED and line.place is not None}
    return {uidl for uidl, _ in server.messages} - whole
