from __future__ import annotations

import ssl

import pytest
from app.backends.smtp import SmtpSubmission
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard


@pytest.mark.parametrize(
    ("host", "port", "is_same"), [("MAIL.test", 587, True), ("mail.test", 465, False), ("x.test", 587, False)]
)
def test_accounts_share_a_server_where_host_and_port_are_the_same(host: str, port: int, *, is_same: bool) -> None:
    def host_of(name: str, at: int) -> str:
        login = ServerLogin(name, at, TransportSecurity.TLS, "ann", "secret")
        return SmtpSubmission(login, NetGuard.of([]), ssl.create_default_context(), "gateway.test").host

    assert (host_of("mail.test", 587) == host_of(host, port)) is is_same
