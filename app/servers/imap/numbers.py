"""Writes long lists of messages in pieces, so that no response blocks other sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from app.servers.imap.session import ServerSession

NUMBERS_AT_ONCE = 500


async def numbers_of(session: ServerSession, uids: Sequence[int], *, is_uid: bool) -> AsyncIterator[Sequence[int]]:
    """Yield the numbers of these messages for the client, in pieces: UIDs or sequence numbers."""
    for start in range(0, len(uids), NUMBERS_AT_ONCE):
        slice_uids = uids[start : start + NUMBERS_AT_ONCE]
        yield slice_uids if is_uid else session.selected.numbers_of(slice_uids)
        await session.pace.spend(len(slice_uids) // 5)


async def set_pieces(session: ServerSession, uids: Sequence[int], *, is_uid: bool) -> AsyncIterator[bytes]:
    """Yield the sequence set of these messages, in pieces."""
    writer = SetWriter()
    async for numbers in numbers_of(session, uids, is_uid=is_uid):
        yield writer.add(numbers)
    yield writer.end()


async def set_text(session: ServerSession, uids: Sequence[int], *, is_uid: bool) -> str:
    """Return the sequence set of these messages as one text."""
    return b"".join([piece async for piece in set_pieces(session, uids, is_uid=is_uid)]).decode()


class SetWriter:
    """Writes numbers as a set in their own order, such as `1:3,7`, from any number of pieces."""

    __slots__ = ("_first", "_last", "_separator")

    def __init__(self) -> None:
        self._first = self._last = 0
        self._separator = b""

    def add(self, numbers: Iterable[int]) -> bytes:
        """Return the ranges that are complete."""
        return b"".join(self._ranges(numbers))

    def end(self) -> bytes:
        """Return the last range."""
        return self._range() if self._first else b""

    def _ranges(self, numbers: Iterable[int]) -> Iterator[bytes]:
        for number in numbers:
            if number != self._last + 1 or not self._first:
                if self._first:
                    yield self._range()
                self._first = number
            self._last = number

    def _range(self) -> bytes:
        separator, self._separator = self._separator, b","
        if self._first == self._last:
            return b"%b%d" % (separator, self._first)
        return b"%b%d:%d" % (separator, self._first, self._last)


def written(numbers: Iterable[int]) -> str:
    """Return a short list of numbers as a set, in its own order."""
    writer = SetWriter()
    return (writer.add(numbers) + writer.end()).decode()
