"""COMPRESS=DEFLATE (RFC 4978): a layer between the transport and the protocol, bounded against bombs.

Inflated data may be a thousand times larger than the compressed data. It is passed on in pieces, at most TURN_BYTES per
turn of the event loop and none while the protocol has paused reading; meanwhile nothing more is read.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

from app.errors import MailServerError, ServerProtocolError

PIECE_BYTES = 64 * 1024
TURN_BYTES = 1024 * 1024
_RAW_WINDOW = -15
_SMALL_RAW_WINDOW, _SMALL_MEMORY = -12, 4
"""Commands are short: 16 KiB of memory suffice, instead of zlib's default of 256 KiB."""


class Receiver(Protocol):
    """The protocol above the layer."""

    def data_received(self, d: bytes) -> None: ...

    def drop(self, error: MailServerError) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class DeflateLayer(asyncio.Transport, asyncio.Protocol):
    """The transport of the protocol above, and the protocol of the transport below.

    `compressed` are bytes of the compressed stream that were already read.
    """

    def __init__(self, wire: asyncio.Transport, above: Receiver, compressed: bytes = b"") -> None:
        super().__init__()
        self._wire = wire
        self._above = above
        self._deflate = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, _SMALL_RAW_WINDOW, _SMALL_MEMORY)
        self._inflate = zlib.decompressobj(_RAW_WINDOW)
        self._compressed = compressed
        self._is_paused = self._is_holding = self._is_over = False
        self._next_turn: asyncio.Handle | None = None
        if compressed:
            self._schedule()

    # ---- protocol of the transport below

    def data_received(self, data: bytes) -> None:
        self._compressed += data
        self._inflate_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        self._above.pause_writing()

    def resume_writing(self) -> None:
        self._above.resume_writing()

    # ---- transport of the protocol above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.write(self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH))

    def pause_reading(self) -> None:
        self._is_paused = True
        if not self._wire.is_closing():
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._schedule()

    def abort(self) -> None:
        self._end()
        self._wire.abort()

    def close(self) -> None:
        self._end()
        self._wire.close()

    def is_closing(self) -> bool:
        return self._wire.is_closing()

    # ---- inflating

    def _inflate_turn(self) -> None:
        """Pass on the pieces of one turn; resume reading when all are passed on."""
        self._next_turn = None
        inflated = 0
        while not self._is_paused and not self._is_over:
            piece = self._inflate_piece()
            if not piece:
                self._read_on()
                return
            self._above.data_received(piece)
            inflated += len(piece)
            if inflated >= TURN_BYTES:
                self._schedule()
                return

    def _inflate_piece(self) -> bytes:
        try:
            piece = self._inflate.decompress(self._compressed, PIECE_BYTES)
        except zlib.error:
            self._refuse()
            return b""
        self._compressed = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self._refuse()
        return piece

    def _refuse(self) -> None:
        self._end()
        self._above.drop(ServerProtocolError("The server's compressed stream is broken"))

    def _schedule(self) -> None:
        """Continue in the next turn of the event loop, and pause reading until then."""
        if self._next_turn is None and not self._is_over:
            self._is_holding = True
            if not self._wire.is_closing():
                self._wire.pause_reading()
            self._next_turn = asyncio.get_running_loop().call_soon(self._inflate_turn)

    def _read_on(self) -> None:
        if self._is_holding and not self._is_over:
            self._is_holding = False
            if not self._wire.is_closing():
                self._wire.resume_reading()

    def _end(self) -> None:
        self._is_over = True
        if self._next_turn is not None:
            self._next_turn.cancel()
