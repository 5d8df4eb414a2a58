"""The mirror of an account on each kind of server, while another mail program changes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.harness import open_harness
from tests.servers import providers
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.sync_harness import Followed, OtherClient, add_remote_account, followed_live, mail, plain_backend

PROVIDERS = {one.name: one for one in (providers.MICROSOFT_365, providers.ICLOUD, providers.YAHOO)}
SERVERS = ["dovecot-mdbox", "dovecot-maildir", "cyrus", "courier", *PROVIDERS]


@asynccontextmanager
async def provided(name: str, target_port: int) -> AsyncIterator[int]:
    """The port to connect to: the server's own, or that of a proxy that makes it look like a provider's."""
    if name not in PROVIDERS:
        yield target_port
        return
    async with providers.running(PROVIDERS[name], target_port) as proxy:
        yield proxy.port


@pytest.fixture(params=SERVERS)
async def account(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Followed, OtherClient]]:
    """An account with three messages that is followed and live, and another client of it."""
    name = request.param
    server: Dovecot | Cyrus | Courier = request.getfixturevalue(name if name in ("cyrus", "courier") else "dovecot")
    user = server.add_user(format="maildir") if name == "dovecot-maildir" else server.add_user()  # type: ignore[call-arg]
    async with provided(name, server.imap_port) as port, open_harness(tmp_path) as harness:
        with OtherClient(server, user) as other:
            for number in range(3):
                other.append("INBOX", mail(f"n{number}"))
            account_id = await add_remote_account(harness, user.name)
            backend = plain_backend(account_id, harness, port, user)
            async with followed_live(harness, account_id, backend) as followed:
                yield followed, other


def origin_name(other: OtherClient, path: str) -> str:
    prefix = b'(("INBOX." ".")' in b"".join(other.imap.namespace()[1])
    return f"INBOX.{path}" if prefix else path


async def test_what_another_client_does_is_mirrored(account: tuple[Followed, OtherClient]) -> None:
    followed, other = account
    other.select("INBOX")
    other.uid("STORE", "1", "+FLAGS", "(\\Flagged)")
    other.uid("STORE", "2", "+FLAGS", "(\\Deleted)")
    other.do("expunge")
    await followed.until(followed.subjects, ["n0", "n2"])

    await followed.until(followed.content, await followed.origin_content())

    told = await followed.told()
    assert told.count("message.deleted") == 1
    assert told.count("message.created") == 0
    assert await followed.told("account.") == ["account.connected"]


@pytest.mark.parametrize("path", ["INBOX", "Archive"])
async def test_a_new_message_in_any_mailbox_is_told_within_five_seconds(
    account: tuple[Followed, OtherClient], path: str
) -> None:
    followed, other = account
    before = await followed.subjects(path)
    await asyncio.sleep(0.1)

    other.append(origin_name(other, path) if path != "INBOX" else path, mail("fresh"))
    await followed.until(lambda: followed.subjects(path), [*before, "fresh"])

    assert await followed.told() == ["message.created"]
