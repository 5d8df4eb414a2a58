"""Reads message content: after DATA up to the final dot, or in BDAT chunks (RFC 3030)."""

from __future__ import annotations

from app.servers.smtp.spooler import MessageSpooler
from app.wire.lines import LineBuffer
from app.wire.smtp import ChunkReader, DotReader


class DotContent:
    """The content after DATA."""

    def __init__(self, spooler: MessageSpooler) -> None:
        self._spooler = spooler
        self._reader = DotReader()

    @property
    def has_bare_line_end(self) -> bool:
        return self._reader.has_bare_line_end

    def take(self, lines: LineBuffer) -> bool:
        """Read what has arrived; return whether the message is complete. Bytes after the message stay in `lines`."""
        self._spooler.write(self._reader.feed(lines.take()))
        if self._reader.rest is None:
            return False
        lines.feed(self._reader.rest)
        return True

    def end(self) -> None:
        """Do nothing: the final dot has ended the message."""


class ChunkedContent:
    """The content of BDAT chunks; without a spooler it is read and discarded."""

    def __init__(self, spooler: MessageSpooler | None) -> None:
        self._spooler = spooler
        self._reader = ChunkReader()
        self._remaining_bytes = 0

    @property
    def has_bare_line_end(self) -> bool:
        return self._reader.has_bare_line_end

    @property
    def is_wanted(self) -> bool:
        return self._spooler is not None

    def expect(self, size_bytes: int) -> None:
        """Set the size of the next chunk."""
        self._remaining_bytes = size_bytes

    def take(self, lines: LineBuffer) -> bool:
        """Read what has arrived of the chunk; return whether it is complete."""
        piece = lines.take(self._remaining_bytes)
        self._remaining_bytes -= len(piece)
        if self._spooler is not None:
            self._reader.feed(piece)
            self._spooler.write(piece)
        return self._remaining_bytes == 0

    def end(self) -> None:
        """End the message after its last chunk."""
        if self._spooler is not None:
            self._spooler.write(self._reader.finish())
