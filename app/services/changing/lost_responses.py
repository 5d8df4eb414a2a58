"""Finds messages that reached a mailbox on a mail server after a request began whose response was lost.

Before the request, the mailbox's UIDVALIDITY and UIDNEXT are noted. Messages of the request have higher UIDs. The
mail server itself is asked, because the index may lag.
"""

from __future__ import annotations

from app.mail.backend import MailBackend
from app.mail.delta import Arrived
from app.mail.types import Mailbox
from app.services.access.idempotency import Attempt

_UID_VALIDITY, _UID_NEXT = "uid_validity", "uid_next"
"""The noted facts."""
_BATCH = 100
LOOKED_AT = 1_000
"""The newest messages that are examined: a bound for mailboxes that received very many since."""


async def note_mark(attempt: Attempt, backend: MailBackend, mailbox: Mailbox) -> None:
    """Note the mark after which this request's messages arrive, unless an earlier attempt has.

    Raises MailServerError.
    """
    if attempt.claim is None or _UID_NEXT in attempt.facts:
        return
    newest = await backend.newest(mailbox, 1)
    uid_next = max([mailbox.uid_next, *(arrived.uid + 1 for arrived in newest)])
    await attempt.note({_UID_VALIDITY: mailbox.uid_validity, _UID_NEXT: uid_next})


def has_mark(attempt: Attempt) -> bool:
    """Whether an attempt may have put messages into the mailbox."""
    return _UID_NEXT in attempt.facts


async def landed_since(attempt: Attempt, backend: MailBackend, mailbox: Mailbox) -> list[Arrived]:
    """Return the messages that arrived after the mark, oldest first. Raises MailServerError."""
    noted = attempt.facts
    first_uid = noted[_UID_NEXT] if noted[_UID_VALIDITY] == mailbox.uid_validity else 0
    landed: list[Arrived] = []
    below_uid = None
    while len(landed) < LOOKED_AT:
        batch = await backend.newest(mailbox, _BATCH, below_uid)
        new = [arrived for arrived in batch if isinstance(first_uid, int) and arrived.uid >= first_uid]
        landed += new
        if len(new) < _BATCH:
            break
        below_uid = min(arrived.uid for arrived in new)
    return sorted(landed, key=lambda arrived: arrived.uid)
