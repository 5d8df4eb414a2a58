"""Which addresses count as one, and which are proxies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from app.security.addresses import Proxies, counted_as, is_loopback


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    assert counted_as("2001:db8:1:2::1") == counted_as("2001:db8:1:2:ffff::9")
    assert counted_as("2001:db8:1:2::1") != counted_as("2001:db8:1:3::1")
    assert counted_as("fe80::1%eth0") == counted_as("fe80::2")


def test_an_ipv4_address_counts_as_itself_however_it_is_written() -> None:
    assert counted_as("192.0.2.1") == counted_as("::ffff:192.0.2.1") != counted_as("192.0.2.2")
    assert counted_as("not an address") == "not an address"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_known_in_every_form(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["", "x", "10.0.0.1", "::2", "localhost"])
def test_nothing_else_is_loopback(address: str) -> None:
    assert not is_loopback(address)


def test_a_proxy_is_one_of_the_networks_and_nobody_is_without_them() -> None:
    proxies = Proxies([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])

    assert all(address in proxies for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::5"))
    assert not any(address in proxies for address in ("11.0.0.1", "127.0.0.1", "::1", "", "10"))
    assert "127.0.0.1" not in Proxies()
