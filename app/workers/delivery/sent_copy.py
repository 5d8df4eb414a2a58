"""Stores the copy of a sent message in Sent, once, and flags the message that it answers or forwards."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app import faults
from app.db import accounts
from app.db import submissions as rows
from app.db.session import Database, Transaction
from app.errors import AccountNotFound, Conflict, GatewayError, MailboxNotFound, MailServerError
from app.mail.backend import Backends
from app.mail.delta import Delta
from app.mail.identifiers import now_ms
from app.mail.types import ANSWERED, SEEN, AccountId, Mailbox, MailboxId, Message, MessageId, Role, with_flags
from app.mailstore.blobs import Blobs
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.services.sending.submissions import options_of
from app.telemetry import get_logger
from app.workers.delivery.steps import Steps, record_in

RETRY_MS = 60_000
GIVE_UP_MS = 24 * 3600 * 1000
"""After this time a copy that the mail server does not accept is given up."""
AWAITED_MS = 2 * RETRY_MS
"""How long to wait for the copy of a server that stores sent mail itself; after that Postgate stores the copy."""

REMEMBERED_LIMIT = 10_000

log = get_logger(__name__)


class SentCopy:
    """Stores copies in Sent and sets \\Answered and $Forwarded."""

    def __init__(
        self, database: Database, steps: Steps, index: Index, reader: MailReader, blobs: Blobs, backends: Backends
    ) -> None:
        self._database = database
        self._steps = steps
        self._index = index
        self._reader = reader
        self._blobs = blobs
        self._backends = backends
        self._filed: dict[MailboxId, tuple[str, int]] = {}
        """Message-ID and size of the last copy that was stored in each Sent mailbox."""

    async def file(self, row: rows.Submission) -> None:
        """Store the copy once, flag the answered or forwarded message, and finish the submission."""
        try:
            if not row.is_filed:
                if await self._is_awaited(row):
                    await self._put_off(row)
                    return
                row = await self._file_copy(row)
            await self._mark_answered(row)
        except Conflict:
            raise
        except GatewayError as error:
            if isinstance(error, MailServerError) and now_ms() - row.updated_at_ms < GIVE_UP_MS:
                await self._put_off(row)
                return
            log.warning("copy_not_filed", submission_id=row.id, error=error.code)
        current = await self._steps.current(row)
        if current is not None:
            await self._steps.record(current, {"phase": "done", "due_at_ms": rows.NEVER_MS}, is_durable=False)

    async def is_in_sent(self, row: rows.Submission) -> bool:
        """Whether the message is in Sent, which proves that it was sent."""
        try:
            target = await self._target(row)
            return target is not None and await self._is_in(target, row)
        except (AccountNotFound, MailServerError):
            return False

    async def _put_off(self, row: rows.Submission) -> None:
        current = await self._steps.current(row)
        if current is not None:
            await self._steps.record(current, {"due_at_ms": now_ms() + RETRY_MS, "lease_until_ms": 0})

    async def _target(self, row: rows.Submission) -> Mailbox | None:
        save_to = options_of(row.options).save_to
        try:
            return (
                await self._reader.mailboxes.mailbox(AccountId(row.account_id), save_to)
                if save_to is not None
                else None
            )
        except MailboxNotFound:
            return None

    async def _is_awaited(self, row: rows.Submission) -> bool:
        """Whether the mail server is expected to store the copy itself and has not done so yet."""
        target = await self._target(row)
        if target is None:
            return False
        await self._check_last_copy(target)
        if now_ms() - row.updated_at_ms >= AWAITED_MS or not await self._files_itself(target):
            return False
        return not await self._is_in(target, row)

    async def _files_itself(self, target: Mailbox) -> bool:
        """Whether the mail server stores sent mail itself: it did so before, or it is Gmail (X-GM-EXT-1)."""
        if target.role is not Role.SENT:
            return False
        if await accounts.files_sent(self._database, target.account_id):
            return True
        backend = await self._backends.of(target.account_id)
        return "X-GM-EXT-1" in await backend.capabilities()

    async def _learn(self, target: Mailbox, *, files_sent: bool) -> None:
        """Store whether the account's mail server stores sent mail itself."""
        if await accounts.files_sent(self._database, target.account_id) != files_sent:
            await accounts.set_files_sent(self._database, target.account_id, files_sent=files_sent)

    async def _check_last_copy(self, target: Mailbox) -> None:
        """Delete our copy of the last message if the mail server later stored a copy too."""
        last = self._filed.pop(target.id, None)
        if last is None:
            return
        message_id, size_bytes = last
        messages = await self._reader.messages.with_header(target.account_id, message_id)
        copies = sorted((message for message in messages if message.mailbox_id == target.id), key=lambda copy: copy.uid)
        if len(copies) > 1:
            await self._learn(target, files_sent=True)
            ours = [message for message in copies if message.size_bytes == size_bytes] or copies
            backend = await self._backends.of(target.account_id)
            await self._index.confirm(target.account_id, await backend.expunge(ours[-1:]))

    def _remember(self, target: Mailbox, message_id: str, size_bytes: int) -> None:
        if target.role is Role.SENT:
            if len(self._filed) >= REMEMBERED_LIMIT:
                self._filed.clear()
            self._filed[target.id] = message_id, size_bytes

    async def _file_copy(self, row: rows.Submission) -> rows.Submission:
        target = await self._target(row)
        if target is None:
            return row
        if (row.phase == "filing" or target.role is Role.SENT) and await self._is_in(target, row):
            if row.phase != "filing":
                await self._learn(target, files_sent=True)
            return await self._steps.record(row, {"is_filed": True})
        await self._learn(target, files_sent=False)
        row = await self._steps.record(row, {"phase": "filing"})
        faults.point("delivery.before_filing")
        account_id = AccountId(row.account_id)
        backend = await self._backends.of(account_id)
        content = await self._blobs.get(row.blob or "")
        confirmed = await backend.append(target, _once(content), len(content), frozenset({SEEN}), None)
        faults.point("delivery.filed")
        current = row

        async def decide(transaction: Transaction) -> Delta:
            await record_in(transaction, current, {"is_filed": True})
            return Delta() if confirmed.written is not None else confirmed.delta

        # after a power cut the phase is still "filing": the mail server is then searched for the copy
        await self._index.change(account_id, decide, is_durable=False)
        self._remember(target, row.message_id_header, len(content))
        return row

    async def _is_in(self, mailbox: Mailbox, row: rows.Submission) -> bool:
        """Whether the mailbox has the message, by Message-ID; searches the server too, as the index may lag."""
        account_id = AccountId(row.account_id)
        known = await self._reader.messages.with_header(account_id, row.message_id_header)
        if any(message.mailbox_id == mailbox.id for message in known):
            return True
        backend = await self._backends.of(account_id)
        return bool(await backend.search(mailbox, "header:Message-ID", row.message_id_header))

    # ---- flags

    async def _mark_answered(self, row: rows.Submission) -> None:
        options = options_of(row.options)
        marks: dict[MessageId | None, str] = {options.answered: ANSWERED, options.forwarded: "$Forwarded"}
        account_id = AccountId(row.account_id)
        for message_id, flag in marks.items():
            if message_id is None:
                continue
            for message in await self._reader.messages.find(account_id, [message_id]):
                await self._mark(account_id, message, flag)

    async def _mark(self, account_id: AccountId, message: Message, flag: str) -> None:
        if with_flags(message.flags, add=frozenset({flag})) == message.flags:
            return
        backend = await self._backends.of(account_id)
        await self._index.confirm(account_id, await backend.store_flags([message], add=frozenset({flag})))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
