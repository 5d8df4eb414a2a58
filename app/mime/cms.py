"""The content of an opaque S/MIME signature: CMS SignedData (RFC 5652 §5, RFC 8551 §3.5.2).

The signature is not verified. Encrypted and compressed data is not opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_ELEMENTS = 200_000
"""Elements that are read of one signature. Large contents come in pieces of 1 KB."""
MAX_DEPTH = 20

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_DATA = bytes.fromhex("2a864886f70d010701")
_OID, _OCTETS, _SEQUENCE, _EXPLICIT = 0x06, 0x04, 0x30, 0xA0
_CONSTRUCTED = 0x20


class _Element(NamedTuple):
    """A BER element: its tag, the start and end of its content, and the start of the next element."""

    tag: int
    start: int
    end: int
    next: int


class _NotReadable(ValueError):
    pass


def signed_content(data: bytes) -> bytes | None:
    """The signed content; None if `data` is not SignedData with its content inside. Never raises; linear."""
    reader = _Reader(data)
    try:
        kind, content = reader.children(reader.element(0))[:2]
        if data[kind.start : kind.end] != _SIGNED_DATA or content.tag != _EXPLICIT:
            return None
        (signed,) = reader.children(content)[:1]
        enclosed = next(element for element in reader.children(signed) if element.tag == _SEQUENCE)
        kind, content = reader.children(enclosed)[:2]
        if data[kind.start : kind.end] != _DATA:
            return None
        return b"".join(piece for element in reader.children(content) for piece in reader.octets(element))
    except (_NotReadable, ValueError, StopIteration):
        return None


class _Reader:
    """A reader of BER elements with definite and indefinite lengths (X.690 §8.1)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_ELEMENTS

    def element(self, start: int, depth: int = 0) -> _Element:
        self._left -= 1
        header = self._data[start : start + 6]
        if len(header) < 2 or self._left < 0 or depth > MAX_DEPTH:
            raise _NotReadable
        tag, length, begin = header[0], header[1], start + 2
        if length == 0x80:
            return self._indefinite(tag, begin, depth)
        if length > 0x80:
            count = length & 0x7F
            length, begin = int.from_bytes(header[2 : 2 + count], "big"), begin + count
            if count > 4:
                raise _NotReadable
        end = begin + length
        if end > len(self._data):
            raise _NotReadable
        return _Element(tag, begin, end, end)

    def children(self, parent: _Element, depth: int = 0) -> list[_Element]:
        children, position = [], parent.start
        while position < parent.end:
            child = self.element(position, depth + 1)
            children.append(child)
            position = child.next
        return children

    def octets(self, element: _Element, depth: int = 0) -> Iterator[bytes]:
        """The bytes of an OCTET STRING, primitive or constructed."""
        if element.tag == _OCTETS:
            yield self._data[element.start : element.end]
        elif element.tag == _OCTETS | _CONSTRUCTED:
            for child in self.children(element, depth):
                yield from self.octets(child, depth + 1)
        else:
            raise _NotReadable

    def _indefinite(self, tag: int, begin: int, depth: int) -> _Element:
        position = begin
        while self._data[position : position + 2] != b"\0\0":
            position = self.element(position, depth + 1).next
        return _Element(tag, begin, position, position + 2)
