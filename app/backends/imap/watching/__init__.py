"""How changes in every mailbox of an account are heard, by the best means that the server confirms.

`watch` chooses the means and waits; `sweeping` polls where nothing is announced; `hearing` merges changes into signals.
"""

from app.backends.imap.watching.watch import ImapWatch

__all__ = ["ImapWatch"]
