"""Which answer about an address is given, and how long it is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
from app.errors import InvalidRequest, RateLimited, Unreachable
from app.mail.offers import Auth, Offer, Protocol
from app.mail.types import TransportSecurity
from app.services.accounts import autoconfig
from app.services.accounts.autoconfig import Autoconfig
from app.services.accounts.autoconfig.sources import DiscoveryRequest, Source, Sources
from app.wire.autoconfig.providers import PROVIDERS, by_domain, by_exchanger


def offer(host: str, protocol: Protocol = Protocol.IMAP) -> Offer:
    return Offer(protocol, host, 993, TransportSecurity.TLS)


@dataclass
class Told:
    """Sources that tell what they are made with; an Event is waited for for ever."""

    by_name: dict[str, Sequence[Offer] | Exception | asyncio.Event]
    asked: list[str] = field(default_factory=list)
    clock: float = 0.0

    def in_order(self) -> tuple[tuple[str, Source], ...]:
        return tuple((name, self._source(name)) for name in self.by_name)

    def _source(self, name: str) -> Source:
        async def source(wanted: DiscoveryRequest) -> Sequence[Offer]:
            self.asked.append(f"{name} {wanted.domain}")
            told = self.by_name[name]
            if isinstance(told, Exception):
                raise told
            if isinstance(told, asyncio.Event):
                await told.wait()
                return [offer(f"{name}.test")]
            return told

        return source

    def autoconfig(self) -> Autoconfig:
        return Autoconfig(cast("Sources", self), _nothing, clock=lambda: self.clock)


async def _nothing(_offer: Offer) -> bool:
    return False


async def test_the_most_trusted_answer_wins_and_faults_are_passed_over() -> None:
    told = Told({"first": Unreachable(), "second": [offer("b.test")], "third": [offer("c.test")]})

    found = await told.autoconfig().find("ann@x.test")

    assert (found.source, found.offers[0].host) == ("second", "b.test")


async def test_servers_for_sending_alone_are_no_answer() -> None:
    told = Told({"first": [offer("a.test", Protocol.SMTP)], "second": [offer("b.test", Protocol.POP3)]})

    assert (await told.autoconfig().find("ann@x.test")).source == "second"


async def test_one_who_is_late_is_waited_for_no_longer_than_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoconfig, "GRACE_SECONDS", 0.01)
    told = Told({"first": asyncio.Event(), "second": [offer("b.test")], "third": asyncio.Event()})

    assert (await told.autoconfig().find("ann@x.test")).source == "second"


async def test_one_who_is_more_trusted_is_believed_within_the_grace() -> None:
    late = asyncio.Event()
    told = Told({"first": late, "second": [offer("b.test")]})
    asyncio.get_running_loop().call_later(0.01, late.set)

    assert (await told.autoconfig().find("ann@x.test")).source == "first"


async def test_large_providers_are_known_without_asking_anyone() -> None:
    told = Told({})

    found = await told.autoconfig().find("Ann@GMail.com")

    assert (found.source, found.provider, found.oauth) == ("builtin", "google", "google")
    assert found.of(Protocol.IMAP)[0].username == "Ann@GMail.com"
    assert Auth.OAUTH2 in found.of(Protocol.IMAP)[0].auth


async def test_an_answer_is_remembered_for_an_hour_and_none_for_a_minute() -> None:
    told = Told({"first": [offer("a.test")]})
    finder = told.autoconfig()
    for clock in (0.0, 3_599.0, 3_601.0):
        told.clock = clock
        await finder.find("ann@x.test")
    assert len(told.asked) == 2

    told.by_name, told.clock = {"first": ()}, 0.0
    for clock in (0.0, 59.0, 61.0):
        told.clock = clock
        await finder.find("bob@y.test")
    assert len(told.asked) == 4


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoconfig, "CACHE_LIMIT", 2)
    told = Told({"first": [offer("a.test")]})
    finder = told.autoconfig()

    for email in ("a@x.test", "b@x.test", "c@x.test", "a@x.test", "c@x.test"):
        await finder.find(email)

    assert len(told.asked) == 4


async def test_a_flood_of_addresses_is_turned_away() -> None:
    hung = asyncio.Event()
    finder = Told({"first": hung}).autoconfig()
    searches = [asyncio.create_task(finder.find(f"u{number}@x.test")) for number in range(10)]
    await asyncio.sleep(0)

    with pytest.raises(RateLimited):
        await finder.find("one@more.test")

    hung.set()
    await asyncio.gather(*searches)
    assert (await finder.find("one@more.test")).source == "first"


@pytest.mark.parametrize("email", ["nobody", "a@b@c.test", "a b@x.test", "a@x.test\r\n", "@x.test", "a@/etc.test"])
async def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(InvalidRequest):
        await Told({}).autoconfig().find(email)


async def test_an_address_at_a_literal_leads_nowhere() -> None:
    told = Told({"first": [offer("a.test")]})

    assert (await told.autoconfig().find("ann@[10.0.0.1]")).offers == ()
    assert told.asked == []


def test_the_table_is_consistent() -> None:
    domains = [domain for provider in PROVIDERS for domain in provider.domains]
    assert len(domains) == len(set(domains))
    for provider in PROVIDERS:
        assert {Protocol.IMAP, Protocol.SMTP} <= {one.protocol for one in provider.offers}
        assert all(one.security is not TransportSecurity.NONE for one in provider.offers)


def test_a_provider_is_known_by_whole_labels_alone() -> None:
    google, microsoft = by_exchanger("ASPMX.L.google.com."), by_exchanger("x-test.mail.protection.outlook.com")
    assert google is by_domain("gmail.com")
    assert microsoft is by_domain("outlook.com")
    assert by_exchanger("mx.notgoogle.com") is None
    assert by_exchanger("google.com.evil.test") is None
