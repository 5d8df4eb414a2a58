"""IP addresses of clients: how limits count them, and which proxies are trusted to report them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_IPV6_PREFIX = 64
"""The network of one customer: providers assign each customer a /64 of IPv6, which has 2^64 addresses."""


@lru_cache(maxsize=4096)
def counted_as(address: str) -> str:
    """The key under which limits count this address: the address, or for IPv6 its /64 network."""
    ip = _parsed(address)
    if isinstance(ip, IPv6Address):
        return str(IPv6Network((ip, _IPV6_PREFIX), strict=False))
    return address if ip is None else str(ip)


def is_loopback(address: str) -> bool:
    ip = _parsed(address)
    return ip is not None and ip.is_loopback


class Proxies:
    """Networks of proxies that are trusted to report a client's address."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        ip = _parsed(address)
        return ip is not None and any(ip in network for network in self._networks)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """The parsed address, or None. An IPv4-mapped IPv6 address becomes its IPv4 address."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip
