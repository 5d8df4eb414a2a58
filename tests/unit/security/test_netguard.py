"""A caller's host name opens no door into this network."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest
from app.errors import AddressNotAllowed, InvalidRequest, TimedOut, Unreachable
from app.security import netguard
from app.security.netguard import NetGuard, Resolver

NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "fd00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]
PUBLIC = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"]


def resolving(*addresses: str) -> Resolver:
    async def resolver(host: str) -> list[str]:
        return list(addresses)

    return resolver


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressNotAllowed):
        await NetGuard().addresses(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_a_name_that_resolves_to_such_an_address_is_refused(address: str) -> None:
    with pytest.raises(AddressNotAllowed):
        await NetGuard(resolver=resolving(address)).addresses("mail.example.com")


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.0.0.1", "127.1", "0x7f000001", "017700000001", "0"])
async def test_decimal_octal_and_short_forms_of_loopback_are_refused(host: str) -> None:
    with pytest.raises((AddressNotAllowed, Unreachable)):
        await NetGuard().addresses(host)


@pytest.mark.parametrize("address", PUBLIC)
async def test_a_public_address_is_allowed(address: str) -> None:
    assert await NetGuard().addresses(address) == [str(ip_address(address))]


async def test_an_allowed_network_is_reached_in_every_spelling() -> None:
    guard = NetGuard.of(["127.0.0.0/8", " 10.1.0.0/16 ", ""])

    assert await guard.addresses("127.0.0.1") == ["127.0.0.1"]
    assert await guard.addresses("[::ffff:127.0.0.1]") == [str(ip_address("::ffff:127.0.0.1"))]
    assert await guard.addresses("10.1.2.3") == ["10.1.2.3"]
    with pytest.raises(AddressNotAllowed):
        await guard.addresses("10.2.0.1")


async def test_only_the_checked_addresses_of_a_name_are_connected_to() -> None:
    guard = NetGuard(resolver=resolving("10.0.0.1", "8.8.8.8", "127.0.0.1"))

    assert await guard.addresses("mixed.example.com") == ["8.8.8.8"]


async def test_a_name_is_resolved_once_so_that_rebinding_finds_no_second_look() -> None:
    asked: list[str] = []

    async def rebinding(host: str) -> list[str]:
        asked.append(host)
        return ["8.8.8.8"] if len(asked) == 1 else ["127.0.0.1"]

    assert await NetGuard(resolver=rebinding).addresses("rebind.example.com") == ["8.8.8.8"]
    assert asked == ["rebind.example.com"]


async def test_the_answer_never_tells_what_a_name_resolved_to() -> None:
    with pytest.raises(AddressNotAllowed) as refusal:
        await NetGuard(resolver=resolving("10.9.8.7")).addresses("inside.example.com")
    assert "10.9.8.7" not in str(refusal.value)


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "user@host", "fe80::1%eth0", "a\r\nb", "a\0b", "x" * 254, "a\\b", "a?b", "a#b"]
)
async def test_what_is_no_host_is_refused_before_it_is_resolved(host: str) -> None:
    async def never(host: str) -> list[str]:
        raise AssertionError(host)

    with pytest.raises(InvalidRequest):
        await NetGuard(resolver=never).addresses(host)


async def test_a_name_without_address_is_unreachable() -> None:
    async def unknown(host: str) -> list[str]:
        raise OSError

    with pytest.raises(Unreachable):
        await NetGuard(resolver=unknown).addresses("nowhere.example.com")


async def test_a_resolver_that_hangs_meets_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(netguard, "RESOLVE_TIMEOUT_SECONDS", 0)
    with pytest.raises(TimedOut):
        await NetGuard(resolver=hanging).addresses("slow.example.com")
