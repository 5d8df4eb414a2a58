"""Incoming mail: local recipients and their INBOX, and the queue for other domains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from app.cluster.bus import SUBMISSIONS, Bus
from app.db import accounts
from app.db import submissions as rows
from app.db.session import Database, Transaction
from app.errors import AccountNotFound, MailboxNotFound, NotStorable
from app.mail.backend import ByteRange
from app.mail.delta import Delta
from app.mail.events import SubmissionQueued
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId, AccountKind, MailboxId
from app.mailstore.blobs import Blobs, BlobWriter
from app.mailstore.content import StoredContent
from app.mailstore.index import Decide, Index, lock_account
from app.mailstore.store import MailStore, arriving
from app.mime.dsn import MAX_PART_BYTES, Report, parts_to_read, read_report
from app.mime.trace import return_path_field
from app.services.sending.dsn import settle
from app.services.sending.submissions import Options, Recipient, note_of, options_to_json, recipients_to_json, state_of
from app.telemetry import get_logger
from app.wire.smtp import plain_address

log = get_logger(__name__)

PLUS = "+"
"""Separates a tag in the local part: ann+shop@demo.test is delivered to ann@demo.test."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """The INBOX of one recipient. `address` is as the sender wrote it."""

    address: str
    account_id: AccountId
    mailbox_id: MailboxId


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that an SMTP client submitted for external recipients."""

    account_id: AccountId
    sender: str
    recipients: tuple[str, ...]
    message_id_header: str
    needs_smtputf8: bool = False


class Deliveries:
    """Finds recipients and delivers their mail. `domains`: the local domains."""

    def __init__(
        self,
        database: Database,
        index: Index,
        store: MailStore,
        bus: Bus,
        domains: Sequence[str] = (),
        *,
        has_smarthost: bool = True,
    ) -> None:
        """`has_smarthost`: whether mail to other domains can be sent."""
        self.has_smarthost = has_smarthost
        self._database = database
        self._index = index
        self._store = store
        self._bus = bus
        self._domains = frozenset(domain.lower() for domain in domains)

    @property
    def blobs(self) -> Blobs:
        return self._store.blobs

    # ---- local recipients

    def is_local(self, address: str) -> bool:
        """Whether the domain of an address is local."""
        return address.rpartition("@")[2].lower() in self._domains

    async def find(self, address: str) -> Inbox | None:
        """Return the INBOX of an address, with or without its tag."""
        for candidate in _candidates(address):
            inbox = await accounts.inbox_of(self._database, candidate)
            if inbox is not None:
                return Inbox(address, *inbox)
        return None

    async def account_of(self, address: str) -> AccountId | None:
        """Return the embedded account that receives mail for an address."""
        inbox = await self.find(address)
        return None if inbox is None else inbox.account_id

    async def is_embedded(self, account_id: AccountId) -> bool:
        return await accounts.kind_of(self._database, account_id) is AccountKind.EMBEDDED

    async def may_send_as(self, account_id: AccountId, sender: str) -> bool:
        """Whether an address is the account's own, with or without a tag."""
        own = await accounts.address_of(self._database, account_id)
        return own is not None and own in _candidates(sender)

    # ---- delivering

    async def keep(self, spool: BlobWriter) -> StoredContent:
        """Store a spooled message permanently. Raises StorageFull, StorageUnavailable; the spool is deleted then."""
        return await self._store.keep_written(spool)

    async def deliver(
        self, content: StoredContent, inboxes: Sequence[Inbox], outgoing: Outgoing | None = None
    ) -> list[bool]:
        """Put a message into each INBOX and queue it for external recipients, in one transaction.

        It is on disk when this returns. If this raises, nothing was delivered, so that a retry of the sender
        duplicates nothing. Returns for each INBOX whether it still existed. If several are the same, it gets one
        message. A message that is also sent on is stored as sent; the copies in INBOXes begin with Return-Path.
        """
        local = content if outgoing is None or not inboxes else await self._with_return_path(content, outgoing.sender)
        by_account = {inbox.account_id: inbox for inbox in inboxes}
        report = await self._report(local) if inboxes else None
        submission = None if outgoing is None else _submission(outgoing, content)
        involved = by_account.keys() | ({outgoing.account_id} if outgoing is not None else set())

        async def work(transaction: Transaction, *, is_bare: bool = False) -> set[AccountId]:
            for account_id in sorted(involved):  # in one order, so that no two deliveries wait for each other
                with suppress(AccountNotFound):
                    await lock_account(transaction, account_id)
            delivered = set()
            for account_id, inbox in by_account.items():
                settled = None if report is None or is_bare else partial(_settled, account_id, report)
                decide = arriving(account_id, inbox.mailbox_id, [(local, frozenset(), None)], settled, is_bare=is_bare)
                with suppress(AccountNotFound, MailboxNotFound):
                    await self._index.change_in(transaction, account_id, decide)
                    delivered.add(account_id)
            if submission is not None:
                queueing = self._queueing(submission)
                await self._index.change_in(transaction, AccountId(submission.account_id), queueing)
            return delivered

        turn = next(iter(involved)) if len(involved) == 1 else None
        try:
            delivered = await self._database.write(work, turn=turn)
        except NotStorable:
            log.warning("delivery_refused", accounts=sorted(by_account))
            delivered = await self._database.write(partial(work, is_bare=True), turn=turn)
        return [inbox.account_id in delivered for inbox in inboxes]

    async def _report(self, content: StoredContent) -> Report | None:
        """Return the delivery report in a message, if it is one."""
        structure, contents = content.arrived.structure, {}
        for part in parts_to_read(structure):
            _, start, end = part.span or (0, 0, 0)
            span = ByteRange(start, min(end, start + MAX_PART_BYTES))
            contents[part.section] = await self.blobs.get(content.blob, span)
        return read_report(structure, contents) if structure is not None and contents else None

    async def _with_return_path(self, content: StoredContent, sender: str) -> StoredContent:
        async def pieces() -> AsyncIterator[bytes]:
            yield return_path_field(sender)
            async for piece in self.blobs.stream(content.blob):
                yield piece

        return await self._store.keep_stream(pieces())

    def _queueing(self, submission: rows.Submission) -> Decide:
        async def decide(transaction: Transaction) -> Delta:
            await rows.add(transaction, submission)
            transaction.after_commit(partial(self._bus.poke, SUBMISSIONS))
            return Delta(notes=(note_of(state_of(submission), SubmissionQueued),))

        return decide


async def _settled(account_id: AccountId, report: Report, transaction: Transaction) -> Delta:
    return await settle(transaction, account_id, report)


def _submission(outgoing: Outgoing, content: StoredContent) -> rows.Submission:
    now = now_ms()
    return rows.Submission(
        account_id=outgoing.account_id,
        id=new_id("sub"),
        status="queued",
        phase="",
        sender=outgoing.sender,
        recipients=recipients_to_json([Recipient(address) for address in outgoing.recipients]),
        message_id_header=outgoing.message_id_header,
        blob=content.blob,
        size_bytes=content.arrived.size_bytes,
        options=options_to_json(Options(needs_smtputf8=outgoing.needs_smtputf8, is_from_client=True)),
        attempts=0,
        due_at_ms=now,
        send_at_ms=None,
        lease_until_ms=0,
        is_filed=False,
        created_at_ms=now,
        updated_at_ms=now,
    )


def _candidates(address: str) -> list[str]:
    """Return the addresses under which a recipient is looked up, the most exact first."""
    plain = plain_address(address)
    local, at, domain = plain.rpartition("@")
    base = local.partition(PLUS)[0]
    return [plain] if base in ("", local) else [plain, f"{base}{at}{domain}"]
