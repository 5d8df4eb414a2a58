"""Sends what is due: one submission an attempt, each step on record before it is taken, so that a crash at any line
sends nothing twice.

`phase` of a row that is `sending`: "" nothing has left; "content" the message was about to go, so that without a reply
nobody knows (RFC 5321 §4.5.4.1). Of one that is `sent`: "sent" the answers are on record, the copy in Sent is not;
"filing" the copy is on its way to an origin; "done".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from app import faults
from app.cluster.bus import SUBMISSIONS, Bus, listening
from app.db import submissions as rows
from app.db.session import Database, Transaction
from app.errors import AccountNotFound, Conflict, GatewayError, LoginRefused, MailServerError, NotFound
from app.mail.backend import Backends, OutgoingMail, RecipientResult, Verdict
from app.mail.delta import Delta
from app.mail.identifiers import now_ms
from app.mail.types import ANSWERED, SEEN, AccountId, Mailbox, Message, MessageId, with_flags
from app.mailstore.index import Index
from app.mailstore.store import MailStore
from app.mime.trace import return_path_field
from app.services.submissions import (
    Recipient,
    note_of,
    options_of,
    recipients_of,
    recipients_to_json,
    state_of,
)
from app.telemetry import get_logger

LEASE_SECONDS = 120.0
PARALLEL_ATTEMPTS = 32
ATTEMPTS_PER_ACCOUNT = 2
"""So that a slow server holds up its own account's mail alone, and sending leaves room for answering."""
RETRY_SECONDS = (60, 300, 900, 1800, 3600, 7200, 14400)
"""Waits between attempts; the last one repeats."""
GIVE_UP_MS = 4 * 24 * 3600 * 1000
"""RFC 5321 §4.5.4.1 asks for 4–5 days."""
FILING_RETRY_MS = 60_000
IDLE_SECONDS = 30.0

log = get_logger(__name__)


class LocalDirectory(Protocol):
    """Who lives here."""

    async def is_embedded(self, account_id: AccountId) -> bool:
        """Whether an account lives here, so that its mail to others here need not leave."""
        ...

    def is_local(self, address: str) -> bool:
        """Whether the address's domain is one of ours."""
        ...

    async def account_of(self, address: str) -> AccountId | None:
        """The embedded account that mail to an address goes to."""
        ...


class Delivery:
    """Attempts what is due, a few at a time, until it is cancelled."""

    def __init__(
        self,
        database: Database,
        index: Index,
        store: MailStore,
        backends: Backends,
        directory: LocalDirectory,
        bus: Bus,
        *,
        is_alone: bool,
    ) -> None:
        """`is_alone`: no other process works on this database."""
        self._is_alone = is_alone
        self._database = database
        self._index = index
        self._store = store
        self._backends = backends
        self._directory = directory
        self._bus = bus
        self._attempts: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look for due submissions whenever one is taken and whenever one falls due."""
        if self._is_alone:
            await rows.release_all(self._database)
        with listening(self._bus, SUBMISSIONS) as waiter:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._start_due(group)
                    await waiter.wait(await self._seconds_to_next())

    async def _seconds_to_next(self) -> float:
        due = await rows.next_due_ms(self._database)
        if due is None:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.05, (due - now_ms()) / 1000))

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        if len(self._attempts) >= PARALLEL_ATTEMPTS:
            return
        busy = [account_id for account_id, _ in self._attempts]
        full = [one for one in set(busy) if busy.count(one) >= ATTEMPTS_PER_ACCOUNT]
        for row in await rows.due(self._database, now_ms(), full, PARALLEL_ATTEMPTS * 2):
            key = (row.account_id, row.id)
            if key not in self._attempts and self._has_room(row.account_id):
                self._attempts.add(key)
                group.create_task(self._attempt(row))

    def _has_room(self, account_id: str) -> bool:
        of_account = sum(one == account_id for one, _ in self._attempts)
        return of_account < ATTEMPTS_PER_ACCOUNT and len(self._attempts) < PARALLEL_ATTEMPTS

    async def _attempt(self, row: rows.Submission) -> None:
        try:
            claimed = await self._claim(row)
            if claimed is not None:
                await self._advance(claimed)
        except Exception as error:  # noqa: BLE001 - one submission's trouble is its own; its lease runs out
            log.warning("attempt_failed", submission_id=row.id, error=type(error).__name__)
        finally:
            self._attempts.discard((row.account_id, row.id))
            self._bus.poke(SUBMISSIONS)

    async def _claim(self, row: rows.Submission) -> rows.Submission | None:
        """Take a row for this worker; None when another was quicker."""
        changes: dict[str, object] = {"lease_until_ms": now_ms() + int(LEASE_SECONDS * 1000)}
        if row.status in rows.WAITING:
            changes |= {"status": "sending", "phase": "", "attempts": row.attempts + 1}

        async def work(transaction: Transaction) -> bool:
            return await rows.change(transaction, row, changes, is_claim=True)

        # a claim that a power cut loses is made again: nothing has left by then
        is_claimed = await self._database.write(work, is_durable=False)
        return replace(row, **changes) if is_claimed else None  # type: ignore[arg-type]

    async def _advance(self, row: rows.Submission) -> None:
        """Take a claimed submission as far as it goes."""
        if row.status == "sending" and row.phase == "content":
            await self._settle_abandoned(row)
        elif row.status == "sending":
            await self._send(row)
        else:
            await self._file(row)

    # ---- sending

    async def _send(self, row: rows.Submission) -> None:
        row = await self._deliver_locally(row)
        remaining = [one for one in recipients_of(row.recipients) if one.is_open]
        if not remaining:
            await self._conclude(row, [])
            return
        try:
            results = await self._hand_over(row, remaining)
        except (LoginRefused, MailServerError) as error:
            results = _all(remaining, Verdict.DEFERRED, error)
        except (NotFound, GatewayError) as error:
            results = _all(remaining, Verdict.REFUSED, error)
        current = await rows.get(self._database, row.account_id, row.id)
        if current is not None:
            await self._conclude(current, results)

    async def _hand_over(self, row: rows.Submission, remaining: Sequence[Recipient]) -> Sequence[RecipientResult]:
        submission = await self._backends.submission_of(AccountId(row.account_id))
        mail = OutgoingMail(
            row.sender,
            tuple(one.address for one in remaining),
            await self._store.blobs.get(row.blob or ""),
            needs_smtputf8=options_of(row.options).needs_smtputf8,
            envelope_id=row.id,
        )

        async def before_content() -> None:
            await self._record(row, {"phase": "content"})
            faults.point("delivery.before_content")

        async with self._lease_kept(row):
            results = await submission.send(mail, before_content)
        faults.point("delivery.after_reply")
        return results

    async def _record(self, row: rows.Submission, changes: dict[str, object], *, is_durable: bool = True) -> None:
        async def work(transaction: Transaction) -> None:
            if not await rows.change(transaction, row, changes):
                raise Conflict("Another worker has taken this submission")

        await self._database.write(work, is_durable=is_durable)

    def _lease_kept(self, row: rows.Submission) -> _LeaseKeeper:
        return _LeaseKeeper(lambda: rows.renew(self._database, row, now_ms() + int(LEASE_SECONDS * 1000)))

    async def _deliver_locally(self, row: rows.Submission) -> rows.Submission:
        """Put the message into the mailboxes of recipients who live here, each in one transaction with its record."""
        if not await self._directory.is_embedded(AccountId(row.account_id)):
            return row
        for recipient in recipients_of(row.recipients):
            if not recipient.is_open:
                continue
            target = await self._directory.account_of(recipient.address)
            if target is not None:
                row = await self._deliver_to(row, recipient, target)
            elif self._directory.is_local(recipient.address):
                row = await self._refuse(row, recipient)
        return row

    async def _refuse(self, row: rows.Submission, recipient: Recipient) -> rows.Submission:
        gone = replace(recipient, status="refused", enhanced_code="5.1.1", response="There is no such user here")
        updated = replace(row, recipients=_with(recipients_of(row.recipients), [gone]))
        await self._record(row, {"recipients": updated.recipients})
        return updated

    async def _deliver_to(self, row: rows.Submission, recipient: Recipient, target: AccountId) -> rows.Submission:
        sent = await self._store.blobs.get(row.blob or "")
        content = await self._store.keep(return_path_field(row.sender) + sent)
        inbox = next(one for one in await self._index.mailboxes(target) if one.path == "INBOX")
        done = replace(recipient, status="accepted", enhanced_code="2.1.5", response="Delivered here")
        updated = replace(row, recipients=_with(recipients_of(row.recipients), [done]))

        async def alongside(transaction: Transaction) -> None:
            if not await rows.change(transaction, row, {"recipients": updated.recipients}):
                raise Conflict("Another worker has taken this submission")

        await self._store.add(target, inbox.id, [(content, frozenset(), None)], alongside)
        return updated

    # ---- what came of it

    async def _conclude(self, row: rows.Submission, results: Sequence[RecipientResult]) -> None:
        """Put the answers on record, and the state that follows from them, with its event."""
        recipients = _answered(recipients_of(row.recipients), results)
        status = _status_of(recipients)
        now = now_ms()
        if status == "deferred" and now - row.created_at_ms > GIVE_UP_MS:
            status = "failed"
        changes: dict[str, object] = {
            "recipients": recipients_to_json(recipients),
            "status": status,
            "phase": "sent" if status == "sent" else "done",
            "due_at_ms": now + _wait_ms(row.attempts) if status == "deferred" else now,
            "updated_at_ms": now,
        }
        await self._change(row, changes, f"submission.{status}")
        faults.point("delivery.recorded")
        if status == "sent":
            await self._file(replace(row, **changes))  # type: ignore[arg-type]

    async def _settle_abandoned(self, row: rows.Submission) -> None:
        """A worker died after the message was about to go. If it is in Sent it went; else nobody knows."""
        went = await self._is_in_sent(row)
        options = options_of(row.options)
        open_ones = [one for one in recipients_of(row.recipients) if one.is_open]
        if not went and options.is_retried_when_uncertain:
            await self._change(row, {"status": "queued", "phase": "", "due_at_ms": now_ms()}, "submission.queued")
            return
        verdict = Verdict.ACCEPTED if went else Verdict.UNCERTAIN
        await self._conclude(row, [RecipientResult(one.address, verdict) for one in open_ones])

    async def _change(self, row: rows.Submission, changes: dict[str, object], event: str) -> None:
        changed = replace(row, **changes)  # type: ignore[arg-type]

        async def decide(transaction: Transaction) -> Delta:
            if not await rows.change(transaction, row, changes):
                raise Conflict("Another worker has taken this submission")
            return Delta(notes=(note_of(state_of(changed), event),))

        await self._index.change(AccountId(row.account_id), decide)

    # ---- the copy in Sent, and the mark on what was answered

    async def _file(self, row: rows.Submission) -> None:
        """File the Sent copy once, mark the message that was answered, and be done."""
        try:
            if not row.is_filed:
                await self._file_copy(row)
            await self._mark_answered(row)
        except MailServerError:
            await self._record(row, {"due_at_ms": now_ms() + FILING_RETRY_MS, "lease_until_ms": 0})
            return
        current = await rows.get(self._database, row.account_id, row.id)
        if current is not None:
            await self._record(current, {"phase": "done", "due_at_ms": rows.NEVER_MS}, is_durable=False)

    async def _file_copy(self, row: rows.Submission) -> None:
        save_to = options_of(row.options).save_to
        if save_to is None:
            return
        account_id = AccountId(row.account_id)
        try:
            target = await self._index.mailbox(account_id, save_to)
        except NotFound:
            return
        if row.phase == "filing" and await self._is_in(account_id, target, row.message_id_header):
            await self._record(row, {"is_filed": True})
            return
        await self._record(row, {"phase": "filing"})
        row = replace(row, phase="filing")
        faults.point("delivery.before_filing")
        backend = await self._backends.of(account_id)
        content = await self._store.blobs.get(row.blob or "")
        delta = await backend.append(target, _once(content), len(content), frozenset({SEEN}), None)
        faults.point("delivery.filed")

        async def decide(transaction: Transaction) -> Delta:
            await rows.change(transaction, row, {"is_filed": True})
            return delta

        # lost by a power cut, the phase is still "filing": then the origin is asked for the copy
        await self._index.change(account_id, decide, is_durable=False)

    async def _is_in_sent(self, row: rows.Submission) -> bool:
        save_to = options_of(row.options).save_to
        account_id = AccountId(row.account_id)
        try:
            target = await self._index.mailbox(account_id, save_to or "")
        except (NotFound, AccountNotFound):
            return False
        return await self._is_in(account_id, target, row.message_id_header)

    async def _is_in(self, account_id: AccountId, mailbox: Mailbox, message_id_header: str) -> bool:
        """Whether the origin has the message, by its Message-ID: asked of the origin, the index may lag."""
        known = await self._index.with_header(account_id, message_id_header)
        if any(one.mailbox_id == mailbox.id for one in known):
            return True
        backend = await self._backends.of(account_id)
        return bool(await backend.search(mailbox, "header:Message-ID", message_id_header))

    async def _mark_answered(self, row: rows.Submission) -> None:
        options = options_of(row.options)
        marks: dict[MessageId | None, str] = {options.answered: ANSWERED, options.forwarded: "$Forwarded"}
        account_id = AccountId(row.account_id)
        for message_id, flag in marks.items():
            if message_id is None:
                continue
            for message in await self._index.find(account_id, [message_id]):
                await self._mark(account_id, message, flag)

    async def _mark(self, account_id: AccountId, message: Message, flag: str) -> None:
        if with_flags(message.flags, add=frozenset({flag})) == message.flags:
            return
        backend = await self._backends.of(account_id)
        await self._index.apply(account_id, await backend.store_flags([message], add=frozenset({flag})))


class _LeaseKeeper:
    """Renews a lease at a third of its length while a block runs."""

    def __init__(self, renew: Callable[[], Awaitable[None]]) -> None:
        self._renew = renew

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self._renew()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _all(recipients: Sequence[Recipient], verdict: Verdict, error: GatewayError) -> list[RecipientResult]:
    origin = error.origin if isinstance(error, MailServerError) else None
    response = origin.response if origin else error.detail
    code = origin.enhanced_code if origin else None
    return [RecipientResult(one.address, verdict, code, response) for one in recipients]


def _answered(recipients: Sequence[Recipient], results: Sequence[RecipientResult]) -> tuple[Recipient, ...]:
    by_address = {one.address: one for one in results}
    return tuple(
        Recipient(one.address, by_address[one.address].verdict, found.enhanced_code, found.response)
        if (found := by_address.get(one.address)) is not None and one.is_open
        else one
        for one in recipients
    )


def _with(recipients: Sequence[Recipient], changed: Sequence[Recipient]) -> str:
    by_address = {one.address: one for one in changed}
    return recipients_to_json([by_address.get(one.address, one) for one in recipients])


def _status_of(recipients: Sequence[Recipient]) -> str:
    """uncertain before deferred before sent before failed: what is most open decides."""
    found = {one.status for one in recipients}
    if Verdict.UNCERTAIN in found:
        return "uncertain"
    if found & {"pending", "deferred"}:
        return "deferred"
    return "sent" if Verdict.ACCEPTED in found else "failed"


def _wait_ms(attempts: int) -> int:
    seconds = RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1]
    return int(seconds * 1000 * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
