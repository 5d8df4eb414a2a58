"""Submissions: accepted, shown, rescheduled and cancelled. `workers.delivery` sends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson

from app.cluster.bus import SUBMISSIONS, Bus
from app.db import submissions as rows
from app.db.session import Database, Transaction
from app.errors import Conflict, InvalidRequest, SubmissionNotFound
from app.mail.backend import Backends
from app.mail.delta import Delta, Note
from app.mail.events import SubmissionEvent, SubmissionFailed, SubmissionQueued
from app.mail.identifiers import new_id, now_ms
from app.mail.metadata import Metadata, has_metadata, metadata_member
from app.mail.storable import json_bytes
from app.mail.types import AccountId, MailboxId, MessageId, SubmissionId
from app.mailstore.blobs import Blobs
from app.mailstore.index import Index
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt

UNDO_LIMIT_SECONDS = 3600
BATCHES_LIMIT = 20
"""The most batches that are read for one page, if a limited caller sees few of their submissions."""
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
        """Whether it needs another attempt."""
        return self.status in ("pending", "deferred")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a submission.

    `save_to` None stores no copy. `is_retried_when_uncertain`: send again a message that may have arrived. `answered`
    and `forwarded` name the message to mark after this one was sent. `is_from_client`: an SMTP client submitted it,
    stores its own copy, and gets DSNs for failures; `is_delay_told`: also for delays. `made_by`: the token of the
    request. `metadata`: set by the app.
    """

    save_to: MailboxId | None = None
    is_retried_when_uncertain: bool = False
    answered: MessageId | None = None
    forwarded: MessageId | None = None
    needs_smtputf8: bool = False
    is_from_client: bool = False
    is_delay_told: bool = False
    made_by: str | None = None
    metadata: Metadata = field(default_factory=dict)


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
    """A composed message to send. `send_at_ms` and `undo_seconds` delay it."""

    sender: str
    recipients: tuple[str, ...]
    message_id_header: str
    content: bytes
    options: Options
    send_at_ms: int | None = None
    undo_seconds: int = 0


AnswerFor = Callable[[SubmissionState], Answer]
"""Makes the answer to the request that created a submission."""


class Submissions:
    """Accepts submissions and returns their states."""

    def __init__(
        self,
        database: Database,
        index: Index,
        blobs: Blobs,
        bus: Bus,
        backends: Backends,
        domains: Sequence[str] = (),
    ) -> None:
        """`domains`: the local domains."""
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

        Raises NotSupported, and stores nothing, if the message could not be sent.
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
            return Delta(notes=(note_of(state, SubmissionQueued),))

        await self._index.change(account_id, decide)
        return state

    async def get(self, account_id: AccountId, submission_id: str, caller: Caller) -> SubmissionState:
        """Raises SubmissionNotFound, also for one that the caller may not see."""
        row = await rows.get(self._database, account_id, submission_id)
        return _visible(row, caller)

    async def is_seen(self, account_id: AccountId, submission_id: str, caller: Caller) -> bool:
        try:
            await self.get(account_id, submission_id, caller)
        except SubmissionNotFound:
            return False
        return True

    async def page(
        self,
        account_id: AccountId,
        caller: Caller,
        limit: int,
        after: tuple[int, str] | None,
        metadata: Metadata | None = None,
    ) -> tuple[list[SubmissionState], tuple[int, str] | None]:
        """Return visible submissions, newest first, after (created_at_ms, id), and where the next page starts.

        With `metadata`, only submissions with it. A page may have fewer than `limit` though more follow.
        """
        wanted = metadata or {}
        members = [metadata_member(*member) for member in wanted.items()]
        states: list[SubmissionState] = []
        for _ in range(BATCHES_LIMIT):
            batch = [state_of(row) for row in await rows.page(self._database, account_id, limit + 1, after, members)]
            for state in batch:
                if len(states) == limit:
                    return states, after
                after = (state.created_at_ms, state.id)
                if may_see(caller, state) and has_metadata(state.options.metadata, wanted):
                    states.append(state)
            if len(batch) <= limit:
                return states, None
        return states, after

    async def reschedule(
        self, account_id: AccountId, submission_id: str, caller: Caller, send_at_ms: int
    ) -> SubmissionState:
        """Send at another time. Raises Conflict after an attempt has begun."""
        _check_schedule(send_at_ms, now_ms())
        changes = {"status": "held", "due_at_ms": send_at_ms, "send_at_ms": send_at_ms}
        return await self._change_waiting(account_id, submission_id, caller, changes, SubmissionQueued)

    async def cancel(self, account_id: AccountId, submission_id: str, caller: Caller) -> SubmissionState:
        """Never send it. Raises Conflict after an attempt has begun."""
        changes: dict[str, object] = {"status": "cancelled"}
        return await self._change_waiting(account_id, submission_id, caller, changes, SubmissionFailed)

    async def _change_waiting(
        self,
        account_id: AccountId,
        submission_id: str,
        caller: Caller,
        changes: dict[str, object],
        event: type[SubmissionEvent],
    ) -> SubmissionState:
        async def decide(transaction: Transaction) -> Delta:
            row = await rows.get(transaction, account_id, submission_id)
            _visible(row, caller)
            assert row is not None
            if row.status not in rows.WAITING or row.attempts:
                raise Conflict(f"The submission is {row.status} and can no longer be changed")
            if not await rows.change(transaction, row, {**changes, "updated_at_ms": now_ms()}):
                raise Conflict("An attempt to send it has started")
            transaction.after_commit(partial(self._bus.poke, SUBMISSIONS))
            changed = replace(row, **changes)  # type: ignore[arg-type]
            return Delta(notes=(note_of(state_of(changed), event),))

        await self._index.change(account_id, decide)
        return await self.get(account_id, submission_id, caller)


def may_see(caller: Caller, state: SubmissionState) -> bool:
    """Whether its sender is one of the caller's, and the caller created it or sees the mailbox of its copy."""
    if not caller.may_send_as(state.sender):
        return False
    options = state.options
    is_own = options.made_by is not None and options.made_by == caller.token_id
    return is_own or caller.mailbox_ids is None or options.save_to in caller.mailbox_ids


def _visible(row: rows.Submission | None, caller: Caller) -> SubmissionState:
    if row is None or not may_see(caller, state := state_of(row)):
        raise SubmissionNotFound
    return state


def _due_ms(new: NewSubmission, now: int) -> int:
    if not 0 <= new.undo_seconds <= UNDO_LIMIT_SECONDS:
        raise InvalidRequest.at("/undo_seconds", f"Must be from 0 to {UNDO_LIMIT_SECONDS}")
    if new.send_at_ms is not None:
        _check_schedule(new.send_at_ms, now)
    return max(new.send_at_ms or now, now + new.undo_seconds * 1000)


def _check_schedule(send_at_ms: int, now: int) -> None:
    if send_at_ms > now + SCHEDULE_LIMIT_MS:
        raise InvalidRequest.at("/send_at", "Must be within a year from now")


# ---- between rows and values


def recipients_to_json(recipients: Sequence[Recipient]) -> str:
    return json_bytes(
        [[recipient.address, recipient.status, recipient.enhanced_code, recipient.response] for recipient in recipients]
    ).decode()


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


def note_of(state: SubmissionState, kind: type[SubmissionEvent]) -> Note:
    """Return the event of a submission's state."""
    recipients = [
        {
            "address": recipient.address,
            "status": recipient.status,
            "enhanced_code": recipient.enhanced_code,
            "response": recipient.response,
        }
        for recipient in state.recipients
    ]
    metadata = state.options.metadata
    return Note(kind(state.id, state.status, state.message_id_header, recipients, metadata), state.id)
