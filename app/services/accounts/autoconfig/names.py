"""The mail servers of a domain in DNS: SRV records (RFC 6186, RFC 8314 §5.1) and MX records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.mail.offers import EMAIL, Offer, Protocol
from app.mail.types import TransportSecurity

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

LOOKUP_SECONDS = 4.0
MAX_RECORDS = 4
"""The most records of one name that are used."""

SERVICES = (
    ("_imaps", Protocol.IMAP, TransportSecurity.TLS),
    ("_imap", Protocol.IMAP, TransportSecurity.STARTTLS),
    ("_submissions", Protocol.SMTP, TransportSecurity.TLS),
    ("_submission", Protocol.SMTP, TransportSecurity.STARTTLS),
    ("_pop3s", Protocol.POP3, TransportSecurity.TLS),
    ("_pop3", Protocol.POP3, TransportSecurity.STARTTLS),
)


class DomainNames:
    """Queries `servers` ("192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53"), or the system's if empty."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = tuple(servers)
        self._resolver: Resolver | None = None

    async def services(self, domain: str) -> list[Offer]:
        """Return the servers in a domain's SRV records, best first, without services that the domain denies."""
        queries = [self._records(f"{name}._tcp.{domain}", "SRV") for name, _, _ in SERVICES]
        offers: list[Offer] = []
        for (_, protocol, security), records in zip(SERVICES, await asyncio.gather(*queries), strict=True):
            ranked = sorted(records, key=lambda record: (record.priority, -record.weight))
            for record in ranked[:MAX_RECORDS]:
                host = _text_of(record.target)
                if host and record.port:
                    offers.append(Offer(protocol, host, record.port, security, EMAIL))
        return offers

    async def exchangers(self, domain: str) -> list[str]:
        """Return the hosts that receive mail for a domain, best first."""
        records = sorted(await self._records(domain, "MX"), key=lambda record: record.preference)
        return [host for record in records[:MAX_RECORDS] if (host := _text_of(record.exchange))]

    async def _records(self, name: str, kind: str) -> list[Any]:
        """Return the records; none if there is no answer."""
        from dns.exception import DNSException  # dnspython is loaded only when servers are looked up

        try:
            if self._resolver is None:
                self._resolver = _resolver(self._servers)
            answer = await self._resolver.resolve(f"{name}.", kind, lifetime=LOOKUP_SECONDS, search=False)
        except (DNSException, OSError, ValueError):
            return []
        return list(answer)


def _resolver(servers: Sequence[str]) -> Resolver:
    from dns.asyncresolver import Resolver
    from dns.nameserver import Do53Nameserver

    resolver = Resolver(configure=not servers)
    if servers:
        resolver.nameservers = [Do53Nameserver(*_host_and_port(server)) for server in servers]
    return resolver


def _host_and_port(server: str) -> tuple[str, int]:
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        return host, int(port.lstrip(":") or 53)
    host, _, port = server.partition(":") if server.count(":") == 1 else (server, "", "")
    return host, int(port or 53)


def _text_of(name: Any) -> str:
    """Return a host in A-labels without its last dot; "" for the root, which means: none (RFC 2782, RFC 7505)."""
    return str(name).rstrip(".").lower()
