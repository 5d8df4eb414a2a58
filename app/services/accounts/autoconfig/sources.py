"""The sources of an address's servers, in order of trust. Each returns offers, or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from app.mail.offers import Offer
from app.services.accounts.autoconfig.fetching import Fetcher
from app.services.accounts.autoconfig.names import DomainNames
from app.wire.autoconfig import autodiscover
from app.wire.autoconfig.ispdb import read_config
from app.wire.autoconfig.providers import KnownProvider, by_exchanger, by_server

MAX_EXCHANGER_DOMAINS = 2
_MICROSOFT = ("outlook.office365.com", "outlook.office.com", "autodiscover-s.outlook.com")


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """The address whose servers are looked for; its domain in A-labels and lower case."""

    email: str
    domain: str


Source = Callable[[DiscoveryRequest], Awaitable[Sequence[Offer]]]


class Sources:
    """`ispdb_url` is the central database in Mozilla's format, to which a domain is appended; "" for none."""

    def __init__(self, fetcher: Fetcher, names: DomainNames, ispdb_url: str) -> None:
        self._fetcher = fetcher
        self._names = names
        self._ispdb_url = ispdb_url

    def in_order(self) -> tuple[tuple[str, Source], ...]:
        """Return all sources with their names in answers, most trusted first."""
        return (
            ("autoconfig", self._autoconfig),
            ("well-known", self._well_known),
            ("ispdb", self._ispdb),
            ("srv", self._services),
            ("autodiscover", self._autodiscover),
            ("autodiscover", self._autodiscover_at_domain),
            ("autodiscover", self._autodiscover_json),
            ("mx", self._exchangers),
        )

    async def _autoconfig(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        return await self._published(wanted.domain, wanted.email)

    async def _published(self, domain: str, email: str) -> Sequence[Offer]:
        path = f"/mail/config-v1.1.xml?emailaddress={quote(email, safe='')}"
        return await self._config(self._fetcher.url(f"autoconfig.{domain}", path))

    async def _well_known(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        path = f"/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress={quote(wanted.email, safe='')}"
        return await self._config(self._fetcher.url(wanted.domain, path))

    async def _ispdb(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        return await self._listed(wanted.domain)

    async def _listed(self, domain: str) -> Sequence[Offer]:
        return await self._config(f"{self._ispdb_url.rstrip('/')}/{domain}") if self._ispdb_url else ()

    async def _config(self, url: str) -> Sequence[Offer]:
        content = await self._fetcher.get(url)
        return read_config(content) if content else ()

    async def _services(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        return await self._names.services(wanted.domain)

    async def _autodiscover(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        url = self._fetcher.url(f"autodiscover.{wanted.domain}", "/autodiscover/autodiscover.xml")
        return await self._settings(url, wanted.email)

    async def _autodiscover_at_domain(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        url = self._fetcher.url(wanted.domain, "/autodiscover/autodiscover.xml")
        return await self._settings(url, wanted.email)

    async def _settings(self, url: str, email: str) -> Sequence[Offer]:
        content = await self._fetcher.post(url, autodiscover.request(email))
        return autodiscover.read_settings(content) if content else ()

    async def _autodiscover_json(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        """The answer points to the settings. Those of Exchange Online are known, other URLs are fetched."""
        path = f"/autodiscover/autodiscover.json?Email={quote(wanted.email, safe='')}&Protocol=AutodiscoverV1"
        content = await self._fetcher.get(self._fetcher.url(f"autodiscover.{wanted.domain}", path))
        url = autodiscover.read_location(content) if content else None
        if url is None:
            return ()
        microsoft = by_server(_MICROSOFT[0]) if urlsplit(url).hostname in _MICROSOFT else None
        return microsoft.offers if microsoft else await self._settings(url, wanted.email)

    async def _exchangers(self, wanted: DiscoveryRequest) -> Sequence[Offer]:
        """Find the provider by the MX hosts, which usually store the mail too, else look up their domains."""
        exchangers = await self._names.exchangers(wanted.domain)
        provider = next((known for host in exchangers if (known := by_exchanger(host))), None)
        if provider is not None:
            return provider.offers
        for domain in _domains_of(exchangers, wanted.domain):
            if offers := await self._listed(domain):
                return offers
        return ()


def _domains_of(exchangers: Sequence[str], own: str) -> list[str]:
    """Return the possible domains of hosts, without a list of public suffixes: their last three and two labels."""
    domains = {".".join(host.split(".")[-count:]): None for host in exchangers for count in (3, 2) if "." in host}
    return [domain for domain in domains if domain != own and "." in domain][:MAX_EXCHANGER_DOMAINS]


def provider_of(offers: Sequence[Offer]) -> KnownProvider | None:
    """Return the provider that the servers for reading belong to."""
    return next((known for offer in offers if (known := by_server(offer.host))), None)
