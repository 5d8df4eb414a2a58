"""A Dovecot whose answers are spoilt at random: no account is down for ever, and no mail is hidden."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from app.backends.imap import fatal_messages
from app.backends.imap import session as session_module
from app.backends.imap.connection import opening
from app.backends.imap.connection.exchange import Exchange
from app.workers.sync import account as account_module

from tests.harness import open_harness
from tests.servers.dovecot import Dovecot
from tests.servers.mutating_proxy import MutatingProxy
from tests.sync_harness import Followed, OtherClient, add_remote_account, mail, plain_backend

SEEDS = int(os.environ.get("POSTGATE_TEST_SEEDS", "8"))
"""Each takes some two seconds; a soak runs thousands."""
PATIENCE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was dropped is missed within a second."""
    assert Exchange.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Exchange.__init__.__kwdefaults__, "timeout_seconds", 1.0)
    monkeypatch.setattr(session_module, "COMMAND_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(fatal_messages, "COMMAND_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(fatal_messages, "CAREFUL_SECONDS", 1.0)
    monkeypatch.setattr(opening, "LOGIN_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(account_module, "CHECK_SECONDS", 1.0)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_an_account_whose_server_spoke_nonsense_comes_back_with_all_its_mail(
    dovecot: Dovecot, tmp_path: Path, seed: int
) -> None:
    user = dovecot.add_user()
    with OtherClient(dovecot, user) as other:
        other.do("create", "Work")
        for number in range(12):
            other.append(("INBOX", "Work", "Archive")[number % 3], mail(f"m{number}"))
    proxy = MutatingProxy(dovecot.imap_port, seed, spoil=(0.05, 0.1, 0.2, 0.4)[seed % 4])
    async with proxy.serving() as port, open_harness(tmp_path) as harness:
        account_id = await add_remote_account(harness, user.name)
        spoilt, honestly = (plain_backend(account_id, harness, one, user) for one in (port, dovecot.imap_port))
        followed, honest = Followed(harness, account_id, spoilt), Followed(harness, account_id, honestly)
        async with followed.following():
            await asyncio.sleep(0.7)
            dovecot.deliver(mail("new"), user.name)
            await asyncio.sleep(0.3)
            proxy.be_honest()
            await followed.until(lambda: _missing(followed, honest), {}, PATIENCE_SECONDS)
        await spoilt.close()
        await honestly.close()
    assert proxy.changes


async def _missing(followed: Followed, honest: Followed) -> dict[str, object]:
    """How the account differs from what its server has: its state, and by path the UIDs shown and there."""
    shown = {path: set(uids) for path, uids in (await followed.content()).items()}
    there = {path: set(uids) for path, uids in (await honest.origin_content()).items()}
    paths = {"INBOX", "Work", "Archive", *shown}
    found: dict[str, object] = {
        path: (shown.get(path), there.get(path)) for path in paths if shown.get(path) != there.get(path)
    }
    state = await followed.state()
    return found if state == ("ready", "live") else {"": state} | found
