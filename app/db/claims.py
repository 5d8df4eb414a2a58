"""Claims: a row records that one process works on it, by a lease on the database's clock and a fencing number.

A claim is two columns of the row that it protects:

- the end of the lease, in milliseconds by the database's clock. Only that clock is compared with it, so that processes
  whose clocks differ agree on the holder of the row;
- a number that each take changes. Every write under a claim compares it, in the transaction of that write.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ColumnElement, bindparam

from app.db.clock import clock_ms

LEASE_MS = 10_000
"""A claim that was not renewed for this long is free: its process is dead, or cut off from the database."""
FOR_EVER_MS = 2**62

LEASE_END: ColumnElement[int] = clock_ms() + LEASE_MS
"""The end of a claim that is taken or renewed now."""


def is_free(lease_end: ColumnElement[int]) -> ColumnElement[bool]:
    """The condition that a claim has expired.

    `slack_ms` is a parameter of the statement: FOR_EVER_MS ignores an unexpired lease, -FOR_EVER_MS respects an
    expired one.
    """
    return lease_end < clock_ms() + bindparam("slack_ms", type_=BigInteger())
