"""Backends of accounts, as their credentials change."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from app.backends.imap.backend import ImapBackend
from app.cluster.bus import LocalBus
from app.cluster.followers import Followers
from app.db.session import Row, Statement
from app.mail.protocol_log import ProtocolLogs
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.mailstore.reader import MailReader
from app.runtime.backends import AccountBackends
from app.security.netguard import NetGuard
from app.services.accounts.rows import Servers
from app.settings import Settings

ACCOUNT = AccountId("acc_1")


def servers(password: str) -> Servers:
    login = ServerLogin("mail.test", 993, TransportSecurity.TLS, "me", password)
    return Servers(imap=login, smtp=login)


class NoRows:
    """A database that holds no account."""

    async def rows(self, statement: Statement, **values: object) -> list[Row]:
        return []


def backends_in(folder: Path) -> AccountBackends:
    missing, bus = cast("Any", NoRows()), LocalBus()
    settings = Settings(data_dir=folder)
    return AccountBackends(
        settings, missing, MailReader(missing), missing, bus, NetGuard(()), ProtocolLogs(), Followers(bus)
    )


async def test_a_change_that_overtakes_the_making_of_a_backend_leaves_none_with_the_old_password(
    tmp_path: Path,
) -> None:
    backends = backends_in(tmp_path)
    current = ["old"]

    async def servers_of(_: AccountId) -> tuple[AccountKind, Servers]:
        read = current[0]
        if read == "old":  # the password is changed while the row is on its way
            current[0] = "new"
            await backends.forget(ACCOUNT)
        return AccountKind.IMAP, servers(read)

    backends.servers_of = servers_of

    backend = await backends.of(ACCOUNT)

    assert isinstance(backend, ImapBackend)
    assert backend._origin.login.password == "new"
    assert await backends.of(ACCOUNT) is backend


async def test_mail_is_sent_with_the_password_of_now(tmp_path: Path) -> None:
    backends = backends_in(tmp_path)
    current = ["old"]

    async def servers_of(_: AccountId) -> tuple[AccountKind, Servers]:
        return AccountKind.IMAP, servers(current[0])

    backends.servers_of = servers_of
    first = await backends.submission_of(ACCOUNT)
    current[0] = "new"

    second = await backends.submission_of(ACCOUNT)

    assert second is not first
    assert await backends.submission_of(ACCOUNT) is second
