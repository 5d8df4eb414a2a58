"""Which messages stay on a POP3 server: the rules of an account, and their notation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DAYS_LIMIT = 3_650
COUNT_LIMIT = 1_000_000


class Keeping(StrEnum):
    """When a stored message is deleted from the server."""

    KEEP = "keep"
    KEEP_DAYS = "keep_days"
    KEEP_LAST = "keep_last"
    MIRROR_DELETE = "mirror_delete"
    """When it is deleted permanently in Postgate."""
    REMOVE_AFTER_DOWNLOAD = "remove_after_download"


_LIMITS = {Keeping.KEEP_DAYS: DAYS_LIMIT, Keeping.KEEP_LAST: COUNT_LIMIT}


@dataclass(frozen=True, slots=True)
class Retention:
    """`count` is the number of days since the message was stored, or of the newest messages on the server."""

    keeping: Keeping = Keeping.KEEP
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> Retention:
        """Parse `keep`, `keep_days:30`, `keep_last:100`, `mirror_delete` or `remove_after_download`.

        Raises ValueError.
        """
        name, colon, number = text.partition(":")
        try:
            keeping = Keeping(name)
        except ValueError:
            raise ValueError("It is one of " + ", ".join(map(_spelled, Keeping))) from None
        limit = _LIMITS.get(keeping)
        if limit is None:
            if colon:
                raise ValueError(f"{keeping} takes no number")
            return cls(keeping)
        if not (number.isascii() and number.isdigit() and len(number) < 10 and 0 < int(number) <= limit):
            raise ValueError(f"{keeping}:N takes a number from 1 to {limit}")
        return cls(keeping, int(number))

    def __str__(self) -> str:
        return f"{self.keeping}:{self.count}" if self.keeping in _LIMITS else str(self.keeping)


def _spelled(keeping: Keeping) -> str:
    return f"{keeping}:N" if keeping in _LIMITS else str(keeping)


@dataclass(frozen=True, slots=True)
class Pop3Rules:
    """`is_mirror`: a message that another client deletes from the server is deleted in Postgate too."""

    retention: Retention = Retention()
    is_mirror: bool = False


KEEP_ALL = Pop3Rules()


def poll_topic(account_id: str) -> str:
    """Return the bus topic that wakes the worker that polls an account's server (see `cluster.bus`)."""
    return f"pop3:{account_id}"
