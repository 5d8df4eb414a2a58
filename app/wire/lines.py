"""Splitting of a stream into lines, for POP3 and SMTP."""

from __future__ import annotations

from app.errors import TooLarge


class LineBuffer:
    """A buffer of received bytes. Each byte is searched for a line end once, in any split of the stream."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is the longest line, including its end."""
        self._limit = limit_bytes
        self._bytes = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def line(self) -> bytes | None:
        """The next line with its end (LF or CRLF); None until it is complete.

        Raises TooLarge; the buffer cannot be used after that.
        """
        end = self._bytes.find(b"\n", self._searched, self._limit)
        if end < 0:
            self._searched = min(len(self._bytes), self._limit)
            if self._searched == self._limit:
                raise TooLarge("The line is too long")
            return None
        line = bytes(memoryview(self._bytes)[: end + 1])
        del self._bytes[: end + 1]
        self._searched = 0
        return line

    def take(self, limit_bytes: int | None = None) -> bytes:
        """Remove and return the buffered bytes, at most `limit_bytes`."""
        if limit_bytes is None or limit_bytes >= len(self._bytes):
            taken = bytes(self._bytes)
            self._bytes.clear()
        else:
            taken = bytes(memoryview(self._bytes)[:limit_bytes])
            del self._bytes[:limit_bytes]
        self._searched = 0
        return taken

    def clear(self) -> None:
        self._bytes.clear()
        self._searched = 0

    def __len__(self) -> int:
        return len(self._bytes)
