"""Mail on its way out: taken, shown, postponed and cancelled. Sending itself is `workers.delivery`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from app.cluster.bus import SUBMISSIONS, Bus
from app.db import submissions as rows
from app.db.session import Database, Transaction
from app.errors import Conflict, InvalidRequest, SubmissionNotFound
from app.mail.backend import Backends
from app.mail.delta import Delta, Note
from app.mail.identifiers import new_id, now_ms
from app.mail.storable import json_bytes
from app.mail.types import AccountId, MailboxId, MessageId, SubmissionId
from app.mailstore.blobs import Blobs
from app.mailstore.index import Index
from app.services.idempotency import Answer, Attempt

UNDO_LIMIT_SECONDS = 3600
SCHEDULE_LIMIT_MS = 366 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient: pending | accepted | deferred | refused | uncertain | delivered | bounced."""

    address: str
    status: str = "pending"
    enhanced_code: str | None = None
    response: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether an attempt for it is still to be made."""
        return self.status in ("pending", "deferred")


@dataclass(frozen=True, slots=True)
class Options:
    """How a submission is to be treated.

    `save_to` None files no copy. `is_retried_when_uncertain` sends again what may have arrived. `answered` and
    `forwarded` name the message that is marked when this one has left. `is_from_client`: an SMTP client submitted it,
    files its own copy, and is told by mail what went wrong; `is_delay_told`: also that it takes long.
    """

    save_to: MailboxId | None = None
    is_retried_when_uncertain: bool = False
    answered: MessageId | None = None
    forwarded: MessageId | None = None
    needs_smtputf8: bool = False
    is_from_client: bool = False
    is_delay_told: bool = False


@dataclass(frozen=True, slots=True)
class SubmissionState:
    """A submission as callers see it."""

    id: SubmissionId
    account_id: AccountId
    status: str
    sender: str
    message_id_header: str
    recipients: tuple[Recipient, ...]
    options: Options
    send_at_ms: int | None
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class NewSubmission:
    """A composed message to send. `send_at_ms` and `undo_seconds` hold it back."""

    sender: str
    recipients: tuple[str, ...]
    message_id_header: str
    content: bytes
    options: Options
    send_at_ms: int | None = None
    undo_seconds: int = 0


AnswerFor = Callable[[SubmissionState], Answer]
"""The answer to the request that brought a submission."""


class Submissions:
    """Takes submissions and answers for them."""

    def __init__(
        self,
        database: Database,
        index: Index,
        blobs: Blobs,
        bus: Bus,
        backends: Backends,
        domains: Sequence[str] = (),
    ) -> None:
        """`domains` are those whose mail stays here."""
        self._backends = backends
        self._domains = frozenset(domain.lower() for domain in domains)
        self._database = database
        self._index = index
        self._blobs = blobs
        self._bus = bus

    async def take(
        self, account_id: AccountId, new: NewSubmission, attempt: Attempt, answer_for: AnswerFor
    ) -> SubmissionState:
        """Accept a message for sending. Bytes, row and the answer to the request are on disk when this returns.

        NotSupported, and nothing is taken, where it could not leave.
        """
        if any(address.rpartition("@")[2].lower() not in self._domains for address in new.recipients):
            await self._backends.submission_of(account_id)
        now = now_ms()
        due = _due_ms(new, now)
        row = rows.Submission(
            account_id=account_id,
            id=new_id("sub"),
            status="held" if due > now else "queued",
            phase="",
            sender=new.sender,
            recipients=recipients_to_json([Recipient(address) for address in new.recipients]),
            message_id_header=new.message_id_header,
            blob=await self._blobs.put(new.content),
            size_bytes=len(new.content),
            options=options_to_json(new.options),
            attempts=0,
            due_at_ms=due,
            send_at_ms=new.send_at_ms,
            lease_until_ms=0,
            is_filed=False,
            created_at_ms=now,
            updated_at_ms=now,
        )
        state = state_of(row)

        async def decide(transaction: Transaction) -> Delta:
            await rows.add(transaction, row)
            await attempt.record(transaction, answer_for(state))
            transaction.after_commit(partial(self._bus.poke, SUBMISSIONS))
            return Delta(notes=(note_of(state, "submission.queued"),))

        await self._index.change(account_id, decide)
        return state

    async def get(self, account_id: AccountId, submission_id: str) -> SubmissionState:
        """Raises SubmissionNotFound."""
        row = await rows.get(self._database, account_id, submission_id)
        if row is None:
            raise SubmissionNotFound
        return state_of(row)

    async def page(self, account_id: AccountId, limit: int, after: tuple[int, str] | None) -> list[SubmissionState]:
        """Newest first; `after` is (created_at_ms, id) of the last one seen."""
        return [state_of(row) for row in await rows.page(self._database, account_id, limit, after)]

    async def reschedule(self, account_id: AccountId, submission_id: str, send_at_ms: int) -> SubmissionState:
        """Send at another time; Conflict once an attempt has begun."""
        _check_schedule(send_at_ms, now_ms())
        changes = {"status": "held", "due_at_ms": send_at_ms, "send_at_ms": send_at_ms}
        return await self._change_waiting(account_id, submission_id, changes, "submission.queued")

    async def cancel(self, account_id: AccountId, submission_id: str) -> SubmissionState:
        """Never send; Conflict once an attempt has begun."""
        return await self._change_waiting(account_id, submission_id, {"status": "cancelled"}, "submission.failed")

    async def _change_waiting(
        self, account_id: AccountId, submission_id: str, changes: dict[str, object], event: str
    ) -> SubmissionState:
        async def decide(transaction: Transaction) -> Delta:
            row = await rows.get(transaction, account_id, submission_id)
            if row is None:
                raise SubmissionNotFound
            if row.status not in rows.WAITING or row.attempts:
                raise Conflict(f"The submission is {row.status} and cannot be changed any more")
            if not await rows.change(transaction, row, {**changes, "updated_at_ms": now_ms()}):
                raise Conflict("An attempt to send it has just begun")
            transaction.after_commit(partial(self._bus.poke, SUBMISSIONS))
            changed = replace(row, **changes)  # type: ignore[arg-type]
            return Delta(notes=(note_of(state_of(changed), event),))

        await self._index.change(account_id, decide)
        return await self.get(account_id, submission_id)


def _due_ms(new: NewSubmission, now: int) -> int:
    if not 0 <= new.undo_seconds <= UNDO_LIMIT_SECONDS:
        raise InvalidRequest.at("/undo_seconds", f"It is 0 to {UNDO_LIMIT_SECONDS}")
    if new.send_at_ms is not None:
        _check_schedule(new.send_at_ms, now)
    return max(new.send_at_ms or now, now + new.undo_seconds * 1000)


def _check_schedule(send_at_ms: int, now: int) -> None:
    if send_at_ms > now + SCHEDULE_LIMIT_MS:
        raise InvalidRequest.at("/send_at", "It lies more than a year ahead")


# ---- between rows and values


def recipients_to_json(recipients: Sequence[Recipient]) -> str:
    return json_bytes([[one.address, one.status, one.enhanced_code, one.response] for one in recipients]).decode()


def recipients_of(text: str) -> tuple[Recipient, ...]:
    return tuple(Recipient(*fields) for fields in orjson.loads(text))


def options_to_json(options: Options) -> str:
    return json_bytes(options).decode()


def options_of(text: str) -> Options:
    fields: dict[str, Any] = orjson.loads(text)
    return Options(**fields)


def state_of(row: rows.Submission) -> SubmissionState:
    return SubmissionState(
        SubmissionId(row.id),
        AccountId(row.account_id),
        row.status,
        row.sender,
        row.message_id_header,
        recipients_of(row.recipients),
        options_of(row.options),
        row.send_at_ms,
        row.created_at_ms,
    )


def note_of(state: SubmissionState, type_: str) -> Note:
    """The event that tells of a submission's state."""
    recipients = [
        {"address": one.address, "status": one.status, "enhanced_code": one.enhanced_code, "response": one.response}
        for one in state.recipients
    ]
    facts = {
        "submission_id": state.id,
        "status": state.status,
        "message_id_header": state.message_id_header,
        "recipients": recipients,
    }
    return Note(type_, state.id, facts)
