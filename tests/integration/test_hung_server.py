"""Many accounts on a mail server that hangs do not delay one on a good server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.mail.types import AccountId, ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.harness import Harness, open_harness
from tests.integration.raw_server import Conversation, raw_server
from tests.servers.dovecot import Dovecot
from tests.servers.hostile_imap import Dialog, HostileImap
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, GivenBackends, OtherClient, add_remote_account, imap_backend, mail, supervised

BEFORE_THE_HUNG_END_SECONDS = 55.0
"""A command that is not answered is given up after 60 s: what waited for one comes later than this."""
"""Longer than anything here takes alone, far shorter than a server that hangs makes anyone wait."""


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hanging(dialog: Dialog, tag: str) -> None:
    await dialog.reader.read()


HUNG: dict[str, Conversation] = {
    "says nothing": silent,
    "hangs after the login": HostileImap({"ENABLE": hanging, "LIST": hanging}),
    "hangs at the first message": HostileImap({"UID FETCH": hanging}),
}


async def add_hung(harness: Harness, backends: GivenBackends, port: int, hosts: Hosts, count: int) -> list[AccountId]:
    login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "secret")
    origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), hosts)
    ids = [await add_remote_account(harness, f"hung{number}@x.test") for number in range(count)]
    backends.by_id |= {id_: ImapBackend(id_, origin, harness.reader.mailboxes) for id_ in ids}
    return ids


@asynccontextmanager
async def among_hung(
    folder: Path, dovecot: Dovecot, tls: TlsFiles, conversation: Conversation, count: int
) -> AsyncIterator[tuple[Followed, OtherClient, list[AccountId]]]:
    """One account on Dovecot, the last to be taken, beside `count` on a server that hangs; all are followed."""
    user = dovecot.add_user()
    backends = GivenBackends()
    async with raw_server(conversation) as port, open_harness(folder) as harness:
        hung = await add_hung(harness, backends, port, Hosts(), count)
        account_id = await add_remote_account(harness, user.name)
        good = imap_backend(account_id, harness, dovecot, tls, user)
        backends.by_id[account_id] = good
        opened = list(backends.by_id.values())
        with OtherClient(dovecot, user) as other:
            try:
                async with supervised(harness, backends):
                    yield Followed(harness, account_id, good), other, hung
            finally:
                for backend in opened:
                    assert isinstance(backend, ImapBackend)
                    await backend.close()


async def good_account_is_served(one: Followed, other: OtherClient) -> None:
    """It is live soon, and three times new mail is told and listed soon."""
    async with asyncio.timeout(BEFORE_THE_HUNG_END_SECONDS):
        await one.until_live()
        for number in range(3):
            await asyncio.to_thread(other.append, "INBOX", mail(f"m{number}"))
            await one.until(one.subjects, [f"m{earlier}" for earlier in range(number + 1)])


@pytest.mark.parametrize("conversation", HUNG.values(), ids=HUNG)
async def test_fifty_accounts_on_a_hung_server_do_not_delay_one_on_a_good_one(
    tmp_path: Path, dovecot: Dovecot, tls: TlsFiles, conversation: Conversation
) -> None:
    async with among_hung(tmp_path, dovecot, tls, conversation, 50) as (one, other, hung):
        await good_account_is_served(one, other)

        for account_id in hung:
            assert (await Followed(one.harness, account_id, one.backend).state())[1] != "live"


@pytest.mark.soak
@pytest.mark.parametrize("conversation", HUNG.values(), ids=HUNG)
async def test_five_hundred_accounts_on_a_hung_server_do_not_delay_one_on_a_good_one(
    tmp_path: Path, dovecot: Dovecot, tls: TlsFiles, conversation: Conversation
) -> None:
    async with among_hung(tmp_path, dovecot, tls, conversation, 500) as (one, other, _):
        await good_account_is_served(one, other)
