"""Watches all mailboxes of an account for changes, by the best means that the server supports.

`watch` combines `inbox`, `other_mailboxes` and `sweeping`; `pending_changes` merges changes into signals.
"""

from app.backends.imap.watching.watch import ImapWatch

__all__ = ["ImapWatch"]
