"""The PROXY protocol: exact to the byte, bounded, strict."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest
from app.errors import MalformedRequest
from app.wire.proxy import ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = bytes([192, 0, 2, 1, 198, 51, 100, 2, 0, 99, 0, 143])
IPV6 = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + b"\x00\x63\x00\x8f"


def binary(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 99 143\r\n", "192.0.2.1"),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n", "2001:db8::1"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN 2001:db8::1 whatever\r\n", None),
    (binary(0x21, 0x11, IPV4), "192.0.2.1"),
    (binary(0x21, 0x21, IPV6), "2001:db8::1"),
    (binary(0x21, 0x11, IPV4 + b"\x20\x00\x05\x01\x00\x00\x00\x00"), "192.0.2.1"),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, IPV4), None),
]
BAD = [
    b"",
    b"GET / HTTP/1.1\r\n\r\n",
    b"a1 CAPABILITY\r\n",
    b"EHLO example.com\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 99\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 99 143 \r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 99 99999\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 143\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.2 99 143\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 99 143\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 99 143\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.2 99 143\r\n",
    b"PROXY tcp4 192.0.2.1 198.51.100.2 99 143\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.2 99 143\r\n",
    b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
    binary(0x31, 0x11, IPV4),
    binary(0x22, 0x11, IPV4),
    binary(0x21, 0x12, IPV4),
    binary(0x21, 0x31, b"x" * 216),
    binary(0x21, 0x11, IPV4[:11]),
    binary(0x21, 0x21, IPV4),
    SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 65535,
]


def read(data: bytes, size: int) -> tuple[str | None, bytes]:
    """The address, and what was not read."""
    header = ProxyHeader()
    while header.wanted:
        piece = data[: min(header.wanted, size)]
        if not piece:
            raise MalformedRequest("it ends")
        data = data[len(piece) :]
        header.feed(piece)
    return header.address, data


@pytest.mark.parametrize(("data", "address"), GOOD)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_header_is_read_and_nothing_behind_it(data: bytes, address: str | None, size: int) -> None:
    assert read(data + b"\x16\x03\x01 next", size) == (address, b"\x16\x03\x01 next")


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    for size in (1, 5, 100_000):
        with pytest.raises(MalformedRequest):
            read(data, size)


@pytest.mark.parametrize(("data", "_"), GOOD)
def test_a_header_that_is_cut_off_is_none(data: bytes, _: str | None) -> None:
    for end in range(len(data)):
        with pytest.raises(MalformedRequest):
            read(data[:end], 1000)


def test_whatever_comes_is_an_address_or_refused_within_bounds() -> None:
    generator = random.Random(11)
    for _ in range(5_000):
        start = bytearray(generator.choice(GOOD)[0])
        for _ in range(generator.randrange(4)):
            start[generator.randrange(len(start))] = generator.randrange(256)
        data = bytes(start) + generator.randbytes(6_000)
        try:
            address, rest = read(data, 500)
        except MalformedRequest:
            continue
        assert address is None or ip_address(address)
        assert len(data) - len(rest) <= 16 + 4096
