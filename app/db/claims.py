"""How a row says that one process works on it: a lease by the database's clock, and a number that fences its writes.

A claim is two columns of the row that it protects:

- the end of the lease, in milliseconds by the database's clock. Only that clock is compared with it, so that processes
  whose clocks differ agree on who holds the row;
- a number that each take changes. Every write under a claim compares it, in the transaction of that write.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ColumnElement, bindparam

from app.db.clock import clock_ms

LEASE_MS = 10_000
"""A claim that was not renewed for so long is free: its process is dead, or cut off from the database."""
FOR_EVER_MS = 2**62

LEASE_END: ColumnElement[int] = clock_ms() + LEASE_MS
"""When a claim ends that is taken or renewed now."""


def is_free(lease_end: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a claim has ended. `slack_ms`, a parameter of the statement: FOR_EVER_MS ignores what is left of a lease,
    -FOR_EVER_MS respects one that has ended."""
    return lease_end < clock_ms() + bindparam("slack_ms", type_=BigInteger())
