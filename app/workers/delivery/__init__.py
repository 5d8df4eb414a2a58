"""Sends what is due: one submission an attempt, each step on record before it is taken, so that a crash at any line
sends nothing twice.

`worker` claims and starts attempts, `sending` makes them, `concluding` records what came of them, `answers` sees to it
that this succeeds, `filing` files.
"""

from app.workers.delivery.worker import Delivery

__all__ = ["Delivery"]
