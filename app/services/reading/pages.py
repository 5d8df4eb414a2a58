"""Pages of a list that is in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def page_after(
    items: Sequence[T], key: Callable[[T], str], limit: int | None, after: str | None
) -> tuple[Sequence[T], str | None]:
    """Return the items after a key, of items sorted by `key`, at most `limit`; and the last key if there are more."""
    rest = items if after is None else [item for item in items if key(item) > after]
    if limit is None or len(rest) <= limit:
        return rest, None
    return rest[:limit], key(rest[limit - 1])
