"""An account's limits on a real server that has some."""

from __future__ import annotations

import imaplib
from pathlib import Path

import pytest
from app.mail.backend import QuotaResource
from app.mirror.account import Mirror
from app.workers.sync.quotas import QuotaReporter

from tests.harness import open_harness
from tests.servers.cyrus import Cyrus, CyrusUser
from tests.sync_harness import Followed, OtherClient, add_remote_account, mail, plain_backend

KIB = 1024


@pytest.fixture
def user(cyrus: Cyrus) -> CyrusUser:
    return cyrus.add_user()


def limit(cyrus: Cyrus, user: CyrusUser, kib: int) -> None:
    """As the server's administrator does."""
    administrator = cyrus.add_user("cyrus@mail.test")
    with imaplib.IMAP4(cyrus.host, cyrus.imap_port, timeout=10) as imap:
        imap.login(administrator.name, administrator.password)
        answer = imap.setquota(f"user/{user.name}", f"(STORAGE {kib})")
        assert answer[0] == "OK", answer


async def test_limits_of_a_real_server_are_told_when_they_change_and_when_mail_fills_them(
    cyrus: Cyrus, user: CyrusUser, tmp_path: Path
) -> None:
    limit(cyrus, user, 100)
    async with open_harness(tmp_path) as harness:
        account_id = await add_remote_account(harness, user.name)
        backend = plain_backend(account_id, harness, cyrus.imap_port, user)
        followed = Followed(harness, account_id, backend)

        async def told() -> int:
            await QuotaReporter(Mirror(account_id, harness.index, harness.reader, backend)).check()
            return len(await followed.told("quota."))

        try:
            assert await told() == 0
            with OtherClient(cyrus, user) as other:
                other.append("INBOX", mail("small"))
                assert await told() == 0
                other.append("INBOX", mail("large", "x" * 40 * KIB))
                assert await told() == 1
            limit(cyrus, user, 200)
            assert await told() == 2
            (storage,) = await backend.quotas() or ()
        finally:
            await backend.close()

    assert (storage.resource, storage.limit) == (QuotaResource.STORAGE, 200 * KIB)
    assert storage.used >= 40 * KIB
