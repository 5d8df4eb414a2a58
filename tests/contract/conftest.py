from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from app.backends.imap.backend import ImapBackend
from app.backends.imap.pool import Hosts, Origin
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.contract.mail_account import ACCOUNT, MailAccount, Mirror
from tests.servers.dovecot import Dovecot
from tests.servers.tls import TlsFiles


@pytest.fixture(params=["dovecot-mdbox", "dovecot-maildir"])
async def account(request: pytest.FixtureRequest, dovecot: Dovecot, tls: TlsFiles) -> AsyncIterator[MailAccount]:
    """An empty account behind each kind of backend."""
    user = dovecot.add_user(format="maildir" if request.param == "dovecot-maildir" else "mdbox")
    login = ServerLogin("127.0.0.1", dovecot.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
    origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), tls.client_context(), Hosts())
    mirror = Mirror()
    backend = ImapBackend(ACCOUNT, origin, mirror)
    try:
        yield MailAccount(backend, mirror)
    finally:
        await backend.close()
