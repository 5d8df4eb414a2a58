"""Spools an incoming message to disk, after its header has been checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from app.errors import StorageUnavailable, TooLarge
from app.mailstore.blobs import BlobWriter
from app.mime.fields import MAX_HEADER_BYTES
from app.wire.smtp import Refused


class MessageSpooler:
    """Accepts content in pieces, with bounded memory.

    `trace` gets the header block (without the empty line, at most MAX_HEADER_BYTES of it) and returns the fields to
    prepend. Errors (TooLarge, Refused by `trace`, StorageUnavailable) are stored in `problem`, and the rest of the
    message is discarded: the client reads a reply only after the end of its message.
    """

    def __init__(
        self, spool: BlobWriter, limit_bytes: int, trace: Callable[[bytes], bytes], *, has_digest: bool = False
    ) -> None:
        """`has_digest`: compute the SHA-256 of the content, without the prepended fields."""
        self._digest = hashlib.sha256() if has_digest else None
        self._spool = spool
        self._limit = limit_bytes
        self._trace: Callable[[bytes], bytes] | None = trace
        self._head = bytearray()
        self._taken_bytes = 0
        self._is_open = True
        self.problem: TooLarge | Refused | StorageUnavailable | None = None

    def write(self, piece: bytes) -> None:
        """Write the next piece. Errors are stored in `problem`, not raised."""
        if self.problem is not None or not piece:
            return
        self._taken_bytes += len(piece)
        if self._taken_bytes > self._limit:
            self._fail(TooLarge(f"A message may have at most {self._limit} bytes"))
            return
        if self._digest is not None:
            self._digest.update(piece)
        if self._trace is None:
            self._spool_piece(piece)
        else:
            searched = max(0, len(self._head) - 3)
            self._head += piece
            end = 0 if self._head.startswith(b"\r\n") else self._head.find(b"\r\n\r\n", searched)
            if end >= 0 or len(self._head) >= MAX_HEADER_BYTES:
                self._begin(end if end >= 0 else MAX_HEADER_BYTES)

    @property
    def digest(self) -> bytes:
        """Return the digest of all that was written; b"" without `has_digest`."""
        return b"" if self._digest is None else self._digest.digest()

    def finish(self) -> BlobWriter | None:
        """Return the spool with the complete message, which the caller now owns; None after a problem."""
        if self.problem is None and self._trace is not None:
            self._begin(len(self._head))
        if self.problem is not None:
            return None
        self._is_open = False
        return self._spool

    def discard(self) -> None:
        """Discard the spool, unless the message was finished."""
        if self._is_open:
            self._is_open = False
            self._spool.discard()

    def _begin(self, header_bytes: int) -> None:
        trace, self._trace = self._trace, None
        assert trace is not None
        try:
            prepended = trace(bytes(self._head[:header_bytes]))
        except Refused as error:
            self._fail(error)
            return
        self._spool_piece(prepended + bytes(self._head))
        self._head.clear()

    def _spool_piece(self, piece: bytes) -> None:
        try:
            self._spool.write(piece)
        except StorageUnavailable as error:
            self._fail(error)

    def _fail(self, error: TooLarge | Refused | StorageUnavailable) -> None:
        self.problem = error
        self._head.clear()
        self.discard()
