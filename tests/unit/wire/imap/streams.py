"""Ways to cut one stream of bytes, since no reader may depend on where packets end."""

from __future__ import annotations

from collections.abc import Iterator

from app.wire.imap.framing import ClientFramer, LiteralChunk, Response, ServerEvent


def whole(stream: bytes) -> list[bytes]:
    return [stream]


def byte_by_byte(stream: bytes) -> list[bytes]:
    return [stream[index : index + 1] for index in range(len(stream))]


def in_packets(stream: bytes, size: int = 65_536) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def events(packets: list[bytes], framer: ClientFramer | None = None) -> Iterator[ServerEvent]:
    framer = framer or ClientFramer()
    for packet in packets:
        yield from framer.feed(packet)


def responses(stream: bytes) -> list[Response]:
    return [event for event in events([stream]) if isinstance(event, Response)]


def joined(found: list[ServerEvent]) -> list[ServerEvent | bytes]:
    """Events with the chunks of each literal put together, so that different cuts compare equal."""
    result: list[ServerEvent | bytes] = []
    for event in found:
        if not isinstance(event, LiteralChunk):
            result.append(event)
        elif result and isinstance(result[-1], bytes):
            result[-1] += event.data
        else:
            result.append(event.data)
    return result
