"""Records the result of an attempt: the responses, the new state with its event, and the notice to the sender.

A REST client is notified by events. The user of a mail program gets a DSN (RFC 3464) in INBOX, written in the same
transaction and therefore exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from app.db import submissions as rows
from app.db.session import Transaction
from app.mail.backend import ByteRange, RecipientResult, Verdict
from app.mail.delta import Delta
from app.mail.events import SUBMISSION_EVENTS
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId, Mailbox
from app.mailstore.blobs import BlobMissing
from app.mailstore.content import StoredContent
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.mime.notice import MAX_RETURNED_HEADER_BYTES, Action, Notice, RecipientOutcome, write_notice
from app.services.sending.submissions import (
    Recipient,
    note_of,
    options_of,
    options_to_json,
    recipients_of,
    recipients_to_json,
    state_of,
)
from app.workers.delivery import outcome
from app.workers.delivery.sent_copy import SentCopy
from app.workers.delivery.steps import record_in

DELAY_REPORTED_MS = 4 * 3600 * 1000
RETRIED = "The message was handed over but no response came; it is sent again, as requested"


class Concluding:
    """Records the results of attempts. `hostname` is the server that notices name as their reporter."""

    def __init__(self, index: Index, reader: MailReader, store: MailStore, filing: SentCopy, hostname: str) -> None:
        self._index = index
        self._reader = reader
        self._store = store
        self._filing = filing
        self._hostname = hostname

    async def abandoned(self, row: rows.Submission) -> rows.Submission:
        """Conclude an attempt whose worker died while it may have sent the content."""
        lost = [recipient for recipient in recipients_of(row.recipients) if recipient.is_open]
        return await self.conclude(row, [RecipientResult(recipient.address, Verdict.UNCERTAIN) for recipient in lost])

    async def conclude(self, row: rows.Submission, results: Sequence[RecipientResult]) -> rows.Submission:
        """Record the results and return the updated submission. Raises Conflict when another worker has taken it."""
        if any(result.verdict is Verdict.UNCERTAIN for result in results):
            results = await self._settled(row, results)
        now = now_ms()
        before = recipients_of(row.recipients)
        recipients = outcome.answered(before, results)
        if outcome.is_too_late(row, now):
            recipients = outcome.given_up(recipients)
        status = outcome.status_of(recipients)
        changes: dict[str, object] = {
            "recipients": recipients_to_json(recipients),
            "status": status,
            "phase": "sent" if status == "sent" else "done",
            "due_at_ms": now + outcome.wait_ms(row.attempts) if status == "deferred" else now,
            "updated_at_ms": now,
        }
        outcomes = _reports(row, before, recipients, now)
        if any(item.action is Action.DELAYED for item in outcomes):
            changes["options"] = options_to_json(replace(options_of(row.options), is_delay_told=True))
        return await self._change(row, changes, outcomes)

    async def _settled(self, row: rows.Submission, results: Sequence[RecipientResult]) -> list[RecipientResult]:
        """Resolve uncertain results: accepted if the message is in Sent, deferred if the client asked for a retry."""
        if await self._filing.is_in_sent(row):
            known, response = Verdict.ACCEPTED, None
        elif options_of(row.options).is_retried_when_uncertain:
            known, response = Verdict.DEFERRED, RETRIED
        else:
            return list(results)
        return [
            RecipientResult(result.address, known, None, response) if result.verdict is Verdict.UNCERTAIN else result
            for result in results
        ]

    async def _change(
        self, row: rows.Submission, changes: dict[str, object], outcomes: Sequence[RecipientOutcome]
    ) -> rows.Submission:
        account_id = AccountId(row.account_id)
        committed: list[rows.Submission] = []

        async def decide(transaction: Transaction) -> Delta:
            changed = await record_in(transaction, row, changes)
            transaction.after_commit(partial(committed.append, changed))
            return Delta(notes=(note_of(state_of(changed), SUBMISSION_EVENTS[f"submission.{changed.status}"]),))

        inbox = await self._inbox(account_id) if outcomes else None
        if inbox is None:
            await self._index.change(account_id, decide)
        else:
            notice = await self._notice(row, outcomes)
            await self._store.add(account_id, inbox.id, [(notice, frozenset(), None)], decide)
        return committed[-1]

    # ---- notices to the sender

    async def _inbox(self, account_id: AccountId) -> Mailbox | None:
        return next(
            (mailbox for mailbox in await self._reader.mailboxes.mailboxes(account_id) if mailbox.path == "INBOX"), None
        )

    async def _notice(self, row: rows.Submission, outcomes: Sequence[RecipientOutcome]) -> StoredContent:
        notice = Notice(
            hostname=self._hostname,
            recipient=row.sender,
            envelope_id=row.id,
            message_id=f"<{new_id('m')[2:]}@{self._hostname}>",
            date_ms=now_ms(),
            arrived_ms=row.created_at_ms,
            outcomes=tuple(outcomes),
            header=await self._header(row),
            retried_until_ms=outcome.first_due_ms(row) + outcome.GIVE_UP_MS,
        )
        return await self._store.keep(b"Return-Path: <>\r\n" + write_notice(notice))

    async def _header(self, row: rows.Submission) -> bytes:
        try:
            beginning = await self._store.blobs.get(row.blob or "", ByteRange(0, MAX_RETURNED_HEADER_BYTES))
        except BlobMissing:
            return b""
        return beginning.partition(b"\r\n\r\n")[0]


def _reports(
    row: rows.Submission, before: Sequence[Recipient], after: Sequence[Recipient], now: int
) -> list[RecipientOutcome]:
    """Outcomes to report to the sender by mail.

    None for a REST client, which follows events, and none without a sender (RFC 3464 §2: no report of a report).
    """
    options = options_of(row.options)
    if not options.is_from_client or not row.sender:
        return []
    lost = {Verdict.REFUSED, Verdict.UNCERTAIN}
    outcomes = [_lost(new) for old, new in zip(before, after, strict=True) if new.status in lost and old.is_open]
    if not options.is_delay_told and now - outcome.first_due_ms(row) > DELAY_REPORTED_MS:
        outcomes += [_delayed(recipient) for recipient in after if recipient.is_open]
    return outcomes


def _lost(recipient: Recipient) -> RecipientOutcome:
    if recipient.status == Verdict.UNCERTAIN:
        response = "The message was handed over, but no response came: it may have arrived"
        return RecipientOutcome(recipient.address, Action.FAILED, "4.4.2", response, is_uncertain=True)
    return RecipientOutcome(recipient.address, Action.FAILED, recipient.enhanced_code or "5.0.0", recipient.response)


def _delayed(recipient: Recipient) -> RecipientOutcome:
    code = recipient.enhanced_code or ""
    return RecipientOutcome(
        recipient.address, Action.DELAYED, code if code.startswith("4.") else "4.0.0", recipient.response
    )
