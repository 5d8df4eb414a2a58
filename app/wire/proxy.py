"""Reading of PROXY protocol headers, versions 1 and 2 (haproxy's proxy-protocol.txt).

A proxy in front of a server first sends one header with the address of the client whose connection it forwards.
`wanted` is the number of bytes to read next, so that no byte after the header is read.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from app.errors import MalformedRequest

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_LIMIT_BYTES = 107
_V2_HEAD_BYTES = 16
_V2_LIMIT_BYTES = 4096
"""Bytes of addresses and further fields."""
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class ProxyHeader:
    """Reads one header. `address` is the client's; None if the proxy connects for itself, or does not know it."""

    def __init__(self) -> None:
        self._data = b""
        self.wanted = len(_SIGNATURE)
        self.address: str | None = None

    def feed(self, data: bytes) -> None:
        """Add at most `wanted` bytes. The header is complete when `wanted` is 0. Raises MalformedRequest."""
        self._data += data
        self.wanted -= len(data)
        if self.wanted == 0:
            self._advance()

    def _advance(self) -> None:
        if self._data.startswith(_SIGNATURE):
            self._advance_v2()
        elif self._data.startswith(b"PROXY "):
            self._advance_v1()
        else:
            raise MalformedRequest("No PROXY protocol header")

    def _advance_v1(self) -> None:
        if self._data.endswith(b"\r\n"):
            self.address = _address_of_line(self._data[:-2])
        elif len(self._data) >= _V1_LIMIT_BYTES:
            raise MalformedRequest("The PROXY protocol header is too long")
        else:
            self.wanted = 1

    def _advance_v2(self) -> None:
        if len(self._data) < _V2_HEAD_BYTES:
            self.wanted = _V2_HEAD_BYTES - len(self._data)
            return
        size = int.from_bytes(self._data[14:16], "big")
        if size > _V2_LIMIT_BYTES:
            raise MalformedRequest("The PROXY protocol header is too long")
        self.wanted = _V2_HEAD_BYTES + size - len(self._data)
        if self.wanted == 0:
            self.address = _address_of_binary(self._data[12], self._data[13], self._data[_V2_HEAD_BYTES:])


def _address_of_line(line: bytes) -> str | None:
    """The source address of `PROXY TCP4 source destination port port`, or None."""
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return None
    parsers: dict[str, type[IPv4Address | IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}
    if len(words) != 6 or words[1] not in parsers or not all(map(_is_port, words[4:])):
        raise MalformedRequest("Invalid PROXY protocol header")
    try:
        source, _ = (parsers[words[1]](word) for word in words[2:4])
    except ValueError:
        raise MalformedRequest("Invalid address in the PROXY protocol header") from None
    return str(source)


def _is_port(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 5 and int(word) < 65536


def _address_of_binary(command: int, family: int, rest: bytes) -> str | None:
    if command == _LOCAL:
        return None
    if command != _PROXY:
        raise MalformedRequest("Unknown command in the PROXY protocol header")
    if family == _TCP4 and len(rest) >= 12:
        return str(IPv4Address(rest[:4]))
    if family == _TCP6 and len(rest) >= 36:
        return str(IPv6Address(rest[:16]))
    raise MalformedRequest("Unsupported address family in the PROXY protocol header")
