from __future__ import annotations

import ssl
from dataclasses import replace

import pytest
from app.backends.imap.origin import FAILURES_TO_OPEN, OPEN_SECONDS, Host, Hosts, Origin
from app.backends.imap.session import ClientSession
from app.errors import AddressNotAllowed, LoginRefused, RateLimited, Unreachable
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.unit.backends.imap.scripted import scripted_session


def test_the_breaker_opens_after_failed_connects_and_closes_with_time() -> None:
    host = Host()
    for _ in range(FAILURES_TO_OPEN):
        host.check(now=0.0)
        host.note_failure(now=0.0)

    with pytest.raises(Unreachable):
        host.check(now=OPEN_SECONDS - 0.1)
    host.check(now=OPEN_SECONDS)


def test_one_success_forgets_the_failures() -> None:
    host = Host()
    for _ in range(FAILURES_TO_OPEN - 1):
        host.note_failure(now=0.0)
    host.note_success()
    host.note_failure(now=0.0)

    host.check(now=0.0)


def test_a_host_has_a_limit_of_connections() -> None:
    with pytest.raises(RateLimited):
        Host(limit=3, connections=3).check(now=0.0)


def test_hosts_are_told_apart_by_name_and_port() -> None:
    hosts = Hosts()

    assert hosts.at("Mail.test", 993) is hosts.at("mail.test", 993)
    assert hosts.at("mail.test", 993) is not hosts.at("mail.test", 143)


def origin(hosts: Hosts, guard: NetGuard) -> Origin:
    login = ServerLogin("127.0.0.1", 993, TransportSecurity.TLS, "u", "p")
    return Origin(login, guard, ssl.create_default_context(), hosts)


async def test_an_address_that_is_not_allowed_is_refused_before_any_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*args: object) -> ClientSession:
        raise AssertionError

    monkeypatch.setattr(ClientSession, "open", never)
    with pytest.raises(AddressNotAllowed):
        await origin(Hosts(), NetGuard()).open()


@pytest.mark.parametrize(("error", "is_counted"), [(Unreachable(), True), (LoginRefused(), False)])
async def test_the_breaker_counts_failed_connects_and_never_refused_logins(
    monkeypatch: pytest.MonkeyPatch, error: Exception, is_counted: bool
) -> None:
    async def failing(*args: object) -> ClientSession:
        raise error

    monkeypatch.setattr(ClientSession, "open", failing)
    hosts = Hosts()
    subject = origin(hosts, NetGuard.of(["127.0.0.0/8"]))
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(type(error)):
            await subject.open()

    host = hosts.at("127.0.0.1", 993)
    assert host.connections == 0
    with pytest.raises(Unreachable if is_counted else LoginRefused):
        await subject.open()


class NoTokens:
    """The authorization server is away."""

    async def token(self, *, refused: str | None = None) -> str:
        raise Unreachable

    def doubt(self, fresh: str) -> None:
        raise AssertionError


async def test_a_mail_server_does_not_answer_for_an_authorization_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, _ = scripted_session()

    async def opening(*args: object) -> ClientSession:
        return session

    monkeypatch.setattr(ClientSession, "open", opening)
    hosts = Hosts()
    by_password = origin(hosts, NetGuard.of(["127.0.0.0/8"]))
    by_token = replace(by_password, login=replace(by_password.login, tokens=NoTokens()))
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(Unreachable):
            await by_token.open()

    assert await by_password.open() is session


async def test_a_closed_connection_is_taken_off_the_hosts_count(monkeypatch: pytest.MonkeyPatch) -> None:
    session, server = scripted_session()

    async def opening(*args: object) -> ClientSession:
        return session

    monkeypatch.setattr(ClientSession, "open", opening)
    hosts = Hosts()
    await origin(hosts, NetGuard.of(["127.0.0.0/8"])).open()
    host = hosts.at("127.0.0.1", 993)
    assert host.connections == 1

    server.say("* BYE gone\r\n")

    assert host.connections == 0


async def test_a_session_whose_compression_fails_is_closed_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = scripted_session({})

    async def opened(*args: object) -> ClientSession:
        return session

    async def failing(_: ClientSession) -> None:
        raise Unreachable

    monkeypatch.setattr(ClientSession, "open", opened)
    monkeypatch.setattr(ClientSession, "compress", failing)
    hosts = Hosts()
    login = ServerLogin("192.0.2.1", 993, TransportSecurity.TLS, "u", "p")
    with pytest.raises(Unreachable):
        await Origin(login, NetGuard.of(["192.0.2.0/24"]), ssl.create_default_context(), hosts).open()

    assert session.protocol.lost is not None
    assert hosts.at("192.0.2.1", 993).connections == 0
