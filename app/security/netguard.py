"""The check of hosts before connections, against server-side request forgery.

A host from a client is resolved once, every resolved address is checked, and connections use only the addresses that
passed. A name therefore cannot resolve to a public address for the check and to a private one for the connection (DNS
rebinding). No spelling of an address (decimal, octal, IPv4 inside IPv6) bypasses the check, because it applies to the
resolved address and not to the text.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from app.errors import AddressNotAllowed, InvalidRequest, TimedOut, Unreachable

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
Resolver = Callable[[str], Awaitable[list[str]]]
"""Resolves a host name to its addresses, in order of preference. Raises OSError if it has none."""

MAX_HOST_CHARS = 253
MAX_ADDRESSES = 8
RESOLVE_TIMEOUT_SECONDS = 5.0
PARALLEL_LOOK_UPS = 16

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class NetGuard:
    """Checks addresses. `allowed` are the non-public networks that may be reached."""

    allowed: tuple[IPNetwork, ...] = ()
    resolver: Resolver | None = None

    @classmethod
    def of(cls, cidrs: Iterable[str]) -> NetGuard:
        """A guard that allows public addresses and these networks ("127.0.0.0/8"). Raises ValueError."""
        return cls(tuple(ip_network(cidr.strip(), strict=False) for cidr in cidrs if cidr.strip()))

    def allows(self, address: IPAddress) -> bool:
        """Whether this address may be connected to: it is in an allowed network, or public in every interpretation."""
        readings = _readings(address)
        if any(reading in network for network in self.allowed for reading in readings):
            return True
        return all(_is_public(reading) for reading in readings)

    def is_listed(self, address: str) -> bool:
        """Whether this address is in one of the allowed networks."""
        return any(ip_address(address) in network for network in self.allowed)

    async def addresses(self, host: str) -> list[str]:
        """The checked addresses of a host, at most 8. Connect to these, never to the name.

        Raises AddressNotAllowed if no address is allowed, InvalidRequest for an invalid host, Unreachable if the name
        has no address, and TimedOut.
        """
        resolved = await self._resolve(check_host(host))
        allowed = [str(address) for address in resolved if self.allows(address)]
        if not allowed:
            raise AddressNotAllowed
        return allowed[:MAX_ADDRESSES]

    async def _resolve(self, host: str) -> list[IPAddress]:
        literal = _literal(host)
        if literal is not None:
            return [literal]
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
                texts = await (self.resolver or system_resolver)(host)
        except TimeoutError:
            raise TimedOut("The host name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise Unreachable("The host name has no address") from None
        return [ip_address(text) for text in dict.fromkeys(texts)]


def check_host(host: str) -> str:
    """Return a host name or address that is safe to resolve and to use in a handshake. Raises InvalidRequest."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_plain = bare.isprintable() and not any(character in " /\\@?#%[]" for character in bare)
    if not bare or len(bare) > MAX_HOST_CHARS or not is_plain:
        raise InvalidRequest("Must be a host name or an IP address")
    return bare


async def system_resolver(host: str) -> list[str]:
    """Resolve a host's IPv6 and IPv4 addresses with the operating system."""
    look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    results = await asyncio.get_running_loop().run_in_executor(_look_ups(), look_up)
    return [str(sockaddr[0]) for *_, sockaddr in results if "%" not in str(sockaddr[0])]


@cache
def _look_ups() -> ThreadPoolExecutor:
    """Dedicated threads for name resolution, so that a hanging name server does not block the default pool."""
    return ThreadPoolExecutor(PARALLEL_LOOK_UPS, thread_name_prefix="names")


def _literal(host: str) -> IPAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _readings(address: IPAddress) -> list[IPAddress]:
    """The address, and each IPv4 address that a gateway may translate it to."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    embedded: list[IPAddress] = [address]
    if address.sixtofour:
        embedded.append(address.sixtofour)
    if address.teredo:
        embedded.extend(address.teredo)
    if any(address in network for network in _NAT64) or (address in _IPV4_COMPATIBLE and int(address) > 1):
        embedded.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return embedded


def _is_public(address: IPAddress) -> bool:
    is_site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not (address.is_multicast or address.is_reserved or is_site_local)
