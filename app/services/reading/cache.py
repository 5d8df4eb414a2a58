"""A small cache of recent results, bounded in bytes; the oldest are dropped first."""

from __future__ import annotations

from collections import OrderedDict


class RecentBytes:
    """Byte strings by key. `limit_bytes` includes keys; values larger than an eighth of it are not cached."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._values: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: str, value: bytes) -> None:
        size = len(key) + len(value)
        if size > self._limit // 8:
            return
        self.drop(key)
        self._values[key] = value
        self._size += size
        while self._size > self._limit:
            self.drop(next(iter(self._values)))

    def drop(self, key: str) -> None:
        value = self._values.pop(key, None)
        if value is not None:
            self._size -= len(key) + len(value)
