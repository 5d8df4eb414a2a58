"""What the debug setting POSTGATE_DEBUG_LOOP_MS counts in a running gateway."""

from __future__ import annotations

from collections import Counter

from app.loop_watch import COLLECTION

from tests.servers.postgate import Postgate

LOOP_MS = 20


def held(server: Postgate) -> Counter[str]:
    """How often each callback has held the event loop for more than LOOP_MS of CPU time, without garbage collection."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    counts: Counter[str] = Counter()
    for line in lines:
        if line.startswith("postgate_loop_held_total{"):
            name, _, count = line.rpartition(" ")
            counts[name.partition('"')[2].rpartition('"')[0]] = round(float(count))
    del counts[COLLECTION]
    return counts
