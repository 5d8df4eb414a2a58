"""How changes in every mailbox of an account are heard, by the best means that the server confirms.

`watch` chooses the means and waits; `sweeping` asks where nothing is told; `hearing` merges what comes into signals.
"""

from app.backends.imap.watching.watch import ImapWatch

__all__ = ["ImapWatch"]
