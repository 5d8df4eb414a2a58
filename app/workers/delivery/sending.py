"""One attempt: delivery to local mailboxes, and to the next server for all other recipients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app import faults
from app.db import submissions as rows
from app.db.session import Transaction
from app.errors import AccountNotFound, Conflict, GatewayError, MailboxNotFound, MailServerError
from app.mail.backend import Backends, OutgoingMail, RecipientResult, Verdict
from app.mail.types import AccountId
from app.mailstore.store import MailStore
from app.mime.trace import return_path_field
from app.services.sending.deliveries import Deliveries, Inbox
from app.services.sending.submissions import Recipient, options_of, recipients_of, recipients_to_json
from app.workers.delivery.steps import Steps, record_in

Attempted = tuple[rows.Submission, list[RecipientResult]]
"""The current submission, and results that are not recorded yet."""


class SendAttempt:
    """Sends a claimed submission to its open recipients."""

    def __init__(self, steps: Steps, store: MailStore, backends: Backends, deliveries: Deliveries) -> None:
        self._steps = steps
        self._store = store
        self._backends = backends
        self._deliveries = deliveries

    async def send(self, row: rows.Submission) -> Attempted:
        """Send to all open recipients. Raises Conflict once another worker has taken the submission."""
        row, results = await self._deliver_locally(row)
        answered = {result.address for result in results}
        remaining = [
            recipient
            for recipient in recipients_of(row.recipients)
            if recipient.is_open and recipient.address not in answered
        ]
        if not remaining:
            return row, results
        row, handed_over = await self._hand_over(row, remaining)
        return row, [*results, *handed_over]

    async def host_of(self, row: rows.Submission) -> str:
        """Host and port of the submission server, or "" when all open recipients are local.

        Raises AccountNotFound, NotSupported.
        """
        account_id = AccountId(row.account_id)
        is_all_local = all(
            self._deliveries.is_local(recipient.address)
            for recipient in recipients_of(row.recipients)
            if recipient.is_open
        )
        if is_all_local and await self._deliveries.is_embedded(account_id):
            return ""
        return (await self._backends.submission_of(account_id)).host

    async def _hand_over(self, row: rows.Submission, remaining: Sequence[Recipient]) -> Attempted:
        async def before_content() -> None:
            nonlocal row
            row = await self._steps.record(row, {"phase": "content"})
            faults.point("delivery.before_content")

        try:
            submission = await self._backends.submission_of(AccountId(row.account_id))
            mail = OutgoingMail(
                row.sender,
                tuple(recipient.address for recipient in remaining),
                await self._store.blobs.get(row.blob or ""),
                needs_smtputf8=options_of(row.options).needs_smtputf8,
                envelope_id=row.id,
            )
            results = await submission.send(mail, before_content)
        except Conflict:
            raise
        except MailServerError as error:
            results = _all(remaining, Verdict.DEFERRED, error)
        except GatewayError as error:
            results = _all(remaining, Verdict.REFUSED, error)
        faults.point("delivery.after_reply")
        return row, list(results)

    # ---- local recipients

    async def _deliver_locally(self, row: rows.Submission) -> Attempted:
        """Deliver the message to local recipients, each in one transaction with its record."""
        refused: list[RecipientResult] = []
        if not await self._deliveries.is_embedded(AccountId(row.account_id)):
            return row, refused
        for recipient in recipients_of(row.recipients):
            if not recipient.is_open:
                continue
            inbox = await self._deliveries.find(recipient.address)
            is_local = inbox is not None or self._deliveries.is_local(recipient.address)
            delivered = await self._deliver_to(row, recipient, inbox) if inbox is not None else None
            if delivered is not None:
                row = delivered
            elif is_local:
                refused.append(RecipientResult(recipient.address, Verdict.REFUSED, "5.1.1", "No such user"))
        return row, refused

    async def _deliver_to(self, row: rows.Submission, recipient: Recipient, inbox: Inbox) -> rows.Submission | None:
        """Deliver to one recipient and return the updated submission, or None when the mailbox no longer exists."""
        content = await self._store.keep(return_path_field(row.sender) + await self._store.blobs.get(row.blob or ""))
        done = replace(recipient, status="accepted", enhanced_code="2.1.5", response="Delivered")
        others = recipients_of(row.recipients)
        recipients = recipients_to_json([done if other.address == recipient.address else other for other in others])

        async def alongside(transaction: Transaction) -> None:
            await record_in(transaction, row, {"recipients": recipients})

        try:
            await self._store.add(inbox.account_id, inbox.mailbox_id, [(content, frozenset(), None)], alongside)
        except (AccountNotFound, MailboxNotFound):
            return None
        return replace(row, recipients=recipients)


def _all(recipients: Sequence[Recipient], verdict: Verdict, error: GatewayError) -> list[RecipientResult]:
    origin = error.origin if isinstance(error, MailServerError) else None
    response = origin.response if origin else error.detail
    code = origin.enhanced_code if origin else None
    return [RecipientResult(recipient.address, verdict, code, response) for recipient in recipients]
