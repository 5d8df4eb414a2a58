"""How a message comes: after DATA up to its dot, or in the chunks of BDAT (RFC 3030)."""

from __future__ import annotations

from app.servers.smtp.spooler import MessageSpooler
from app.wire.lines import LineBuffer
from app.wire.smtp import ChunkReader, DotReader


class DotContent:
    """What follows DATA."""

    def __init__(self, intake: MessageSpooler) -> None:
        self._intake = intake
        self._reader = DotReader()

    @property
    def has_bare_line_end(self) -> bool:
        return self._reader.has_bare_line_end

    def take(self, lines: LineBuffer) -> bool:
        """Take what has arrived; whether the message is whole. What follows it stays."""
        self._intake.write(self._reader.feed(lines.take()))
        if self._reader.rest is None:
            return False
        lines.feed(self._reader.rest)
        return True

    def end(self) -> None:
        """The dot was the end."""


class ChunkedContent:
    """What follows one BDAT after another; without an intake it is read and forgotten."""

    def __init__(self, intake: MessageSpooler | None) -> None:
        self._intake = intake
        self._reader = ChunkReader()
        self._left_bytes = 0

    @property
    def has_bare_line_end(self) -> bool:
        return self._reader.has_bare_line_end

    @property
    def is_wanted(self) -> bool:
        return self._intake is not None

    def expect(self, size_bytes: int) -> None:
        """The next chunk has this size."""
        self._left_bytes = size_bytes

    def take(self, lines: LineBuffer) -> bool:
        """Take what has arrived of the chunk; whether it is whole."""
        piece = lines.take(self._left_bytes)
        self._left_bytes -= len(piece)
        if self._intake is not None:
            self._reader.feed(piece)
            self._intake.write(piece)
        return self._left_bytes == 0

    def end(self) -> None:
        """That was the last chunk."""
        if self._intake is not None:
            self._intake.write(self._reader.finish())
