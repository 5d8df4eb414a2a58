"""Sends due submissions. Each step is recorded before it is taken, so that a crash at any line sends nothing twice.

`worker` claims submissions and starts attempts, `sending` makes them, `concluding` records their results, `answers`
retries that until it succeeds, `sent_copy` stores the copy in Sent.
"""

from app.workers.delivery.worker import Delivery

__all__ = ["Delivery"]
