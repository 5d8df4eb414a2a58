"""Finding mail servers by an address: over a real HTTPS server and a real DNS server, both on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from app.mail.offers import Auth, Offer, Protocol
from app.mail.types import TransportSecurity
from app.security.netguard import NetGuard
from app.services.accounts import autoconfig
from app.services.accounts.autoconfig import Autoconfig, FoundServers
from app.services.accounts.autoconfig.fetching import Fetcher
from app.services.accounts.autoconfig.guessing import Probe, greeting_probe
from app.services.accounts.autoconfig.names import DomainNames
from app.services.accounts.autoconfig.sources import Sources

from tests.integration.raw_server import raw_server
from tests.servers.dns import dns_server
from tests.servers.https import HttpsServer, Page, https_server

ME = "me@example.test"
PATIENCE_SECONDS = 60.0
"""What takes half as long hangs."""


def config(host: str) -> Page:
    return Page(
        f"""<clientConfig version="1.1"><emailProvider id="x">
        <incomingServer type="imap"><hostname>{host}</hostname><port>993</port><socketType>SSL</socketType>
        <username>%EMAILLOCALPART%</username><authentication>OAuth2</authentication>
        <authentication>password-cleartext</authentication></incomingServer>
        <outgoingServer type="smtp"><hostname>smtp.%EMAILDOMAIN%</hostname><port>587</port>
        <socketType>STARTTLS</socketType><username>%EMAILADDRESS%</username>
        <authentication>password-cleartext</authentication></outgoingServer>
        </emailProvider></clientConfig>""".encode()
    )


EXCHANGE = Page(
    b"""<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response
    xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account>
    <Protocol><Type>IMAP</Type><Server>exchange.example.test</Server><Port>143</Port><SSL>on</SSL></Protocol>
    <Protocol><Type>SMTP</Type><Server>exchange.example.test</Server><Port>587</Port><Encryption>TLS</Encryption>
    <LoginName>EXAMPLE\\me</LoginName></Protocol></Account></Response></Autodiscover>"""
)


async def nothing(_offer: Offer) -> bool:
    return False


@dataclass
class World:
    """The internet: whose names lead to the HTTPS server, unless `addresses` tells another place."""

    web: HttpsServer
    zone: dict[tuple[str, str], list[str]]
    dns: str
    addresses: dict[str, str] = field(default_factory=dict)
    probe: Probe = nothing

    @property
    def guard(self) -> NetGuard:
        async def resolve(host: str) -> list[str]:
            return [self.addresses.get(host, "127.0.0.1")]

        return NetGuard(_LOOPBACK, resolve)

    def autoconfig(self, ispdb: str = "") -> Autoconfig:
        fetcher = Fetcher(self.guard, self.web.tls, self.web.port)
        return Autoconfig(Sources(fetcher, DomainNames([self.dns]), ispdb), self.probe)

    async def find(self, email: str = ME) -> FoundServers:
        return await self.autoconfig().find(email)


_LOOPBACK = NetGuard.of(["127.0.0.1/32"]).allowed


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    zone: dict[tuple[str, str], list[str]] = {}
    names = ("example.test", "*.example.test", "*.hoster.test", "hoster.test", "ispdb.test")
    async with https_server(folder, *names) as web, dns_server(zone) as dns:
        yield World(web, zone, dns)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def test_what_a_domain_publishes_is_found_with_its_placeholders_filled(world: World) -> None:
    world.web.pages["GET autoconfig.example.test/mail/config-v1.1.xml"] = config("imap.example.test")

    found = await world.find()

    assert (found.source, found.provider, found.oauth) == ("autoconfig", None, None)
    assert found.of(Protocol.IMAP) == (
        Offer(Protocol.IMAP, "imap.example.test", 993, TransportSecurity.TLS, "me", (Auth.OAUTH2, Auth.PASSWORD)),
    )
    assert found.of(Protocol.SMTP) == (
        Offer(Protocol.SMTP, "smtp.example.test", 587, TransportSecurity.STARTTLS, "me@example.test"),
    )
    assert "GET autoconfig.example.test/mail/config-v1.1.xml?emailaddress=me%40example.test" in world.web.asked


async def test_the_well_known_place_and_then_the_central_database_are_asked(world: World) -> None:
    world.web.pages["GET ispdb.test/v1.1/example.test"] = config("listed.example.test")
    ispdb = f"https://ispdb.test:{world.web.port}/v1.1/"

    listed = await world.autoconfig(ispdb).find(ME)
    world.web.pages["GET example.test/.well-known/autoconfig/mail/config-v1.1.xml"] = config("known.example.test")
    known = await world.autoconfig(ispdb).find(ME)

    assert (listed.source, listed.offers[0].host) == ("ispdb", "listed.example.test")
    assert (known.source, known.offers[0].host) == ("well-known", "known.example.test")


async def test_srv_records_are_found_best_first(world: World) -> None:
    world.zone["_imaps._tcp.example.test", "SRV"] = ["10 5 993 second.example.test.", "0 5 9993 first.example.test."]
    world.zone["_imap._tcp.example.test", "SRV"] = ["0 0 0 ."]
    world.zone["_submission._tcp.example.test", "SRV"] = ["0 1 587 out.example.test."]
    world.zone["_pop3s._tcp.example.test", "SRV"] = ["0 1 995 pop.example.test."]

    found = await world.find()

    assert found.source == "srv"
    assert [(one.host, one.port, one.security) for one in found.of(Protocol.IMAP)] == [
        ("first.example.test", 9993, TransportSecurity.TLS),
        ("second.example.test", 993, TransportSecurity.TLS),
    ]
    assert [(one.host, one.security) for one in found.of(Protocol.SMTP)] == [
        ("out.example.test", TransportSecurity.STARTTLS)
    ]
    assert [one.host for one in found.of(Protocol.POP3)] == ["pop.example.test"]


async def test_autodiscover_answers_where_a_domain_has_exchange(world: World) -> None:
    world.web.pages["POST autodiscover.example.test/autodiscover/autodiscover.xml"] = EXCHANGE

    found = await world.find()

    assert found.source == "autodiscover"
    [imap], [smtp] = found.of(Protocol.IMAP), found.of(Protocol.SMTP)
    assert (imap.host, imap.port, imap.security, imap.username) == (
        "exchange.example.test", 143, TransportSecurity.STARTTLS, ME,
    )  # fmt: skip
    assert (smtp.security, smtp.username) == (TransportSecurity.STARTTLS, "EXAMPLE\\me")
    assert any(b"<EMailAddress>me@example.test</EMailAddress>" in body for body in world.web.bodies)


async def test_autodiscover_in_json_leads_to_exchange_online(world: World) -> None:
    location = b'{"Protocol":"AutodiscoverV1","Url":"https://outlook.office365.com/autodiscover/autodiscover.xml"}'
    world.web.pages["GET autodiscover.example.test/autodiscover/autodiscover.json"] = Page(location)

    found = await world.find()

    assert (found.source, found.provider, found.oauth) == ("autodiscover", "microsoft", "microsoft")


async def test_a_domain_whose_mail_goes_to_a_provider_is_served_by_it(world: World) -> None:
    world.zone["example.test", "MX"] = ["5 alt1.aspmx.l.google.com.", "1 aspmx.l.google.com."]

    found = await world.find()

    assert (found.source, found.provider, found.oauth) == ("mx", "google", "google")
    assert found.of(Protocol.IMAP)[0].host == "imap.gmail.com"
    assert found.of(Protocol.IMAP)[0].username == ME


async def test_the_domain_of_an_exchanger_is_looked_up_in_the_central_database(world: World) -> None:
    world.zone["example.test", "MX"] = ["1 mx3.in.hoster.test."]
    world.web.pages["GET ispdb.test/hoster.test"] = config("imap.hoster.test")

    found = await world.autoconfig(f"https://ispdb.test:{world.web.port}").find(ME)

    assert (found.source, found.offers[0].host) == ("mx", "imap.hoster.test")


async def test_guesses_are_told_when_a_server_answers_there(world: World) -> None:
    async def at_mail(offer: Offer) -> bool:
        return offer.host == "mail.example.test" and offer.security is TransportSecurity.TLS

    world.probe = at_mail

    found = await world.find()

    assert found.source == "guess"
    assert {(one.protocol, one.host, one.port) for one in found.offers} == {
        (Protocol.IMAP, "mail.example.test", 993),
        (Protocol.SMTP, "mail.example.test", 465),
        (Protocol.POP3, "mail.example.test", 995),
    }


async def test_a_guess_is_believed_by_its_greeting_alone(world: World) -> None:
    said = b"* OK here\r\n"

    async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()

    probe = greeting_probe(world.guard, world.web.tls)
    async with raw_server(greeting) as port:
        imap = Offer(Protocol.IMAP, "mail.example.test", port, TransportSecurity.STARTTLS)
        smtp = Offer(Protocol.SMTP, "mail.example.test", port, TransportSecurity.STARTTLS)
        assert await probe(imap)
        assert not await probe(smtp)
        world.addresses["mail.example.test"] = "10.0.0.1"
        assert not await probe(imap)


async def test_nothing_found_is_an_empty_answer(world: World) -> None:
    found = await world.find()

    assert (found.source, found.offers, found.provider) == (None, (), None)


async def test_a_host_that_hangs_delays_the_answer_of_the_others_by_a_grace_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoconfig, "GRACE_SECONDS", 0.2)
    world.web.pages["GET autoconfig.example.test/mail/config-v1.1.xml"] = Page(is_hung=True)
    world.web.pages["GET example.test/.well-known/autoconfig/mail/config-v1.1.xml"] = config("known.example.test")
    monkeypatch.setattr(autoconfig, "DEADLINE_SECONDS", PATIENCE_SECONDS)

    async with asyncio.timeout(PATIENCE_SECONDS / 2):
        found = await world.find()

    assert found.source == "well-known"


async def test_hosts_that_all_hang_meet_the_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoconfig, "DEADLINE_SECONDS", autoconfig.GUESS_SECONDS + 0.5)
    for path in ("autoconfig.example.test/mail/config-v1.1.xml", "autodiscover.example.test/autodiscover.json"):
        world.web.pages[f"GET {path}"] = Page(is_hung=True)

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await world.find()).offers == ()


# ---- nothing inside is reached by the names that an address leads to


async def test_names_that_resolve_inside_are_never_connected_to(world: World) -> None:
    world.web.pages["GET autoconfig.example.test/mail/config-v1.1.xml"] = config("imap.example.test")
    inside = ("169.254.169.254", "10.1.2.3", "::1", "::ffff:127.0.0.2", "0.0.0.0", "127.0.0.2")
    for address in inside:
        hosts = ("autoconfig.example.test", "autodiscover.example.test", "example.test")
        world.addresses = dict.fromkeys(hosts, address)
        assert (await world.find()).offers == ()

    assert world.web.asked == []


@pytest.mark.parametrize(
    "location",
    [
        "https://inside.example.test:{port}/secret",
        "http://autoconfig.example.test:{port}/secret",
        "https://autoconfig.example.test:22/secret",
        "file:///etc/passwd",
        "https://user@autoconfig.example.test:{port}/secret",
    ],
)
async def test_redirects_are_checked_like_first_requests(world: World, location: str) -> None:
    world.addresses["inside.example.test"] = "10.0.0.1"
    target = location.format(port=world.web.port)
    world.web.pages["GET autoconfig.example.test/mail/config-v1.1.xml"] = Page(status=302, location=target)
    world.web.pages["GET autoconfig.example.test/secret"] = config("stolen.example.test")
    world.web.pages["GET inside.example.test/secret"] = config("stolen.example.test")

    assert (await world.find()).offers == ()
    assert not any("secret" in line for line in world.web.asked)


async def test_a_redirect_to_an_allowed_place_is_followed_but_not_without_end(world: World) -> None:
    first = "GET autoconfig.example.test/mail/config-v1.1.xml"
    world.web.pages[first] = Page(status=302, location="/elsewhere")
    world.web.pages["GET autoconfig.example.test/elsewhere"] = config("imap.example.test")

    assert (await world.find()).source == "autoconfig"

    world.web.pages["GET autoconfig.example.test/elsewhere"] = Page(status=302, location="/elsewhere")
    world.web.asked.clear()
    assert (await world.find()).offers == ()
    assert sum("elsewhere" in line for line in world.web.asked) == 3


async def test_a_long_document_and_one_of_entities_say_nothing(world: World) -> None:
    path = "GET autoconfig.example.test/mail/config-v1.1.xml"
    world.web.pages[path] = Page(config("imap.example.test").body + b" " * 65_536)
    assert (await world.find()).offers == ()

    world.web.pages[path] = Page(b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + config("&a;.example.test").body)
    assert (await world.find()).offers == ()
