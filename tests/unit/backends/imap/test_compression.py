from __future__ import annotations

import asyncio
import zlib

import pytest
from app.backends.imap.connection import Exchange, ImapProtocol, LiteralStream
from app.backends.imap.connection.compression import TURN_BYTES
from app.errors import ServerProtocolError
from app.wire.imap import commands
from app.wire.imap.sets import SequenceSet

from tests.unit.backends.imap.scripted import ScriptedServer


class Packer:
    """The server's side of a compressed stream."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(wbits=-15)

    def __call__(self, data: bytes | str) -> bytes:
        plain = data.encode() if isinstance(data, str) else data
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class CompressingServer(ScriptedServer):
    """Says OK to COMPRESS, and leaves what comes after it to the test."""

    def __init__(self) -> None:
        super().__init__({"COMPRESS": "$ OK go\r\n", "": ""})
        self.above: asyncio.Protocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.above = protocol

    def say_packed(self, data: bytes) -> None:
        assert self.above is not None
        self.above.data_received(data)


async def compressing() -> tuple[CompressingServer, ImapProtocol]:
    server = CompressingServer()
    protocol = server.greet("IMAP4rev1 COMPRESS=DEFLATE")
    await protocol.execute(Exchange(commands.compress(), protocol.new_tag()))
    return server, protocol


async def begun(protocol: ImapProtocol, sink: LiteralStream | None = None) -> Exchange:
    exchange = Exchange(commands.fetch(SequenceSet.of([1]), ["UID"]), protocol.new_tag(), sink=sink)
    await protocol.submit(exchange)
    return exchange


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_both_directions_are_compressed_however_they_are_cut(size: int) -> None:
    server, protocol = await compressing()
    plain_before = len(server.sent)
    exchange = await begun(protocol)

    packed = Packer()(f"* 1 FETCH (UID 1)\r\n{exchange.tag} OK done\r\n")
    for start in range(0, len(packed), size):
        server.say_packed(packed[start : start + size])

    assert len((await protocol.settle(exchange)).responses) == 1
    assert (
        zlib.decompressobj(-15).decompress(server.sent[plain_before:])
        == f"{exchange.tag} UID FETCH 1 (UID)\r\n".encode()
    )


async def test_what_comes_with_the_ok_is_compressed_already() -> None:
    server = CompressingServer()
    server.script["COMPRESS"] = b"$ OK go\r\n" + Packer()("* 7 EXISTS\r\n")
    heard: list[bytes] = []
    protocol = server.greet("IMAP4rev1 COMPRESS=DEFLATE")
    protocol.on_untagged = lambda response: heard.append(response.text)

    await protocol.execute(Exchange(commands.compress(), protocol.new_tag()))
    await asyncio.sleep(0)

    assert heard == [b"* 7 EXISTS"]


@pytest.mark.slow
async def test_a_bomb_is_inflated_turn_by_turn_and_only_while_someone_reads() -> None:
    server, protocol = await compressing()
    sink = LiteralStream(protocol.pause_reading, protocol.resume_reading)
    exchange = await begun(protocol, sink)
    size = 100 * 1024 * 1024
    packer = Packer()
    bomb = packer(
        b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % size + b"\0" * size + b")\r\n" + f"{exchange.tag} OK\r\n".encode()
    )
    assert len(bomb) < 200_000

    server.say_packed(bomb)
    for _ in range(100):
        await asyncio.sleep(0)
    assert sink.buffered_bytes <= TURN_BYTES
    assert not server.reads_on

    assert sum([len(chunk) async for chunk in sink]) == size
    assert (await protocol.settle(exchange)).status == "OK"
    assert server.reads_on


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"* 1 EXISTS\r\n", zlib.compress(b"with a header")])
async def test_a_stream_that_is_not_compressed_ends_the_connection(junk: bytes) -> None:
    server, protocol = await compressing()

    server.say_packed(junk)

    assert isinstance(protocol.lost, ServerProtocolError)
    assert server.is_closed


async def test_a_stream_that_ends_itself_ends_the_connection() -> None:
    server, protocol = await compressing()

    server.say_packed(zlib.compressobj(wbits=-15).flush(zlib.Z_FINISH))

    assert isinstance(protocol.lost, ServerProtocolError)
