"""Mailboxes that cannot be read completely: the account is synced without them, and their `problem` says why."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from app.errors import GatewayError, MailboxNotFound, MailServerError, ServerProtocolError, ServerRefused
from app.mail.delta import Delta, MailboxTroubled
from app.mail.storable import storable
from app.mail.types import Mailbox, MailboxId
from app.mirror.account import Mirror
from app.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

MAILBOX_FAULTS = (ServerRefused, ServerProtocolError, MailboxNotFound)
"""Errors of one mailbox that do not concern the others."""
REASON_CHARS = 500
FILL = "fill"
"""The step that reads all of a mailbox for the first time."""
SETTLE, RECONCILE = "settle", "reconcile"
"""The steps that update a mailbox, and that compare all of it."""
NUMBERS = "numbers"
"""The step that reads the STATUS of a mailbox."""
_WHOLE = frozenset({FILL, SETTLE, RECONCILE})
"""Steps that read everything that the other steps read."""


@dataclass(slots=True)
class _Fault:
    reason: str
    times: int = 1


class Aside:
    """The faults of each mailbox, by the step that failed. A fault that repeats becomes the mailbox's `problem`."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._faults: dict[MailboxId, dict[str, _Fault]] = {}
        self._reported: dict[MailboxId, str | None] = {}

    async def tolerate(self, mailbox: Mailbox, step: str, work: Awaitable[T]) -> T | None:
        """Return the result of `work`; None if it fails for this mailbox alone, to be retried later."""
        try:
            result = await work
        except MAILBOX_FAULTS as error:
            log.warning(
                "mailbox_failed",
                account_id=self._mirror.account_id, mailbox_id=mailbox.id, step=step, error=error.code,
            )  # fmt: skip
            await self.note(mailbox, step, reason_of(error))
            return None
        await self.clear(mailbox, None if step in _WHOLE else step)
        return result

    async def note(self, mailbox: Mailbox, step: str, reason: str, *, is_certain: bool = False) -> None:
        """Record that a step failed. `is_certain`: report it at once, not only after two failures."""
        faults = self._faults.setdefault(mailbox.id, {})
        times = faults[step].times + 1 if step in faults else 1 + is_certain
        faults[step] = _Fault(reason, times)
        await self._report(mailbox)

    async def clear(self, mailbox: Mailbox, step: str | None = None) -> None:
        """Record that a step succeeded.

        None: all of the mailbox was read, which clears all faults, even of earlier processes.
        """
        faults = self._faults.get(mailbox.id, {})
        if step is None:
            self._faults.pop(mailbox.id, None)
            await self._report(mailbox)
        elif faults.pop(step, None) is not None:
            await self._report(mailbox)

    async def _report(self, mailbox: Mailbox) -> None:
        """Write the first repeated fault, or None."""
        repeated = [item.reason for item in self._faults.get(mailbox.id, {}).values() if item.times > 1]
        problem = repeated[0] if repeated else None
        if problem != self._reported.get(mailbox.id, mailbox.problem):
            await self._mirror.apply(Delta(mailboxes_troubled=(MailboxTroubled(mailbox.id, problem),)))
        self._reported[mailbox.id] = problem


def reason_of(error: GatewayError) -> str:
    """Return an error in one line, with the mail server's response."""
    answer = error.origin.response if isinstance(error, MailServerError) and error.origin is not None else ""
    text = error.detail if not answer or answer in error.detail else f"{error.detail}: {answer}"
    return storable(" ".join(text.split()))[:REASON_CHARS]
