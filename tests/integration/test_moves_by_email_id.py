"""On a server that gives EMAILID (RFC 8474), a message that another client moves keeps its id, whatever is like it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.harness import open_harness
from tests.imap_harness import PASSWORD, USER, ImapHarness, open_imap_harness
from tests.sync_harness import Followed, add_remote_account, mail

TWINS = (mail("twin", "Text 1"), mail("twin", "Text 2"))


@asynccontextmanager
async def following_our_own_server(folder: Path) -> AsyncIterator[tuple[Followed, ImapHarness]]:
    """A harness that follows an account of another harness over IMAP."""
    (folder / "near").mkdir()
    (folder / "far").mkdir()
    async with open_imap_harness(folder / "far") as served, open_harness(folder / "near") as harness:
        login = ServerLogin("127.0.0.1", served.port, TransportSecurity.NONE, USER, PASSWORD)
        origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), Hosts())
        account_id = await add_remote_account(harness, USER)
        backend = ImapBackend(account_id, origin, harness.reader.mailboxes)
        followed = Followed(harness, account_id, backend)
        try:
            yield followed, served
        finally:
            await backend.close()


async def test_one_of_two_twins_that_moves_keeps_its_own_id(tmp_path: Path) -> None:
    async with following_our_own_server(tmp_path) as (followed, served):
        for content in TWINS:
            await served.deliver(content)
        async with followed.following():
            await followed.until_live()
            first, second = await followed.ids()
            async with served.client() as client:
                await client.ok("SELECT INBOX")
                await client.ok("UID MOVE 2 Trash")
            await followed.until(lambda: followed.ids("Trash"), [second])
            await followed.until(followed.ids, [first])

        assert await followed.told() == ["message.moved"]


async def test_a_twin_that_comes_as_the_other_goes_has_an_id_of_its_own(tmp_path: Path) -> None:
    async with following_our_own_server(tmp_path) as (followed, served):
        await served.deliver(TWINS[0])
        async with followed.following():
            await followed.until_live()
        (gone,) = await followed.ids()
        async with served.client() as client:
            await client.ok("SELECT INBOX")
            await client.ok("UID STORE 1 +FLAGS (\\Deleted)")
            await client.ok("EXPUNGE")
        await served.deliver(TWINS[1], "Trash")
        async with followed.following():
            await followed.until(followed.ids, [])
            await followed.until(lambda: followed.subjects("Trash"), ["twin"])

        assert await followed.ids("Trash") != [gone]


async def test_an_id_passes_to_the_copy_when_its_original_goes(tmp_path: Path) -> None:
    async with following_our_own_server(tmp_path) as (followed, served):
        await served.deliver(TWINS[0])
        async with followed.following():
            await followed.until_live()
            ids = await followed.ids()
            async with served.client() as client:
                await client.ok("SELECT INBOX")
                await client.ok("UID COPY 1 Trash")
                await followed.until(lambda: followed.subjects("Trash"), ["twin"])
                await client.ok("UID STORE 1 +FLAGS (\\Deleted)")
                await client.ok("EXPUNGE")
            await followed.until(lambda: followed.ids("Trash"), ids)
