"""One mail transaction (RFC 5321 §3.3): a sender, recipients, a message, and its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

from app import faults
from app.errors import StorageFull, Unavailable
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId
from app.mailstore.blobs import BlobWriter
from app.mailstore.content import StoredContent
from app.mime.fields import first_value, split_fields
from app.mime.trace import received_field, return_path_field
from app.servers.smtp.replies import (
    BARE_LINE_END,
    FULL,
    LOOP,
    NO_RELAY,
    NO_ROUTE,
    NO_USER,
    OK,
    reply_to,
)
from app.servers.smtp.site import RECIPIENTS_LIMIT, ListenerRole, SmtpSite
from app.servers.smtp.spooler import MessageSpooler
from app.servers.smtp.unconfirmed import Fingerprint
from app.services.sending.deliveries import Inbox, Outgoing
from app.telemetry import get_logger
from app.wire.smtp import Refused

log = get_logger(__name__)

HOPS_LIMIT = 50
"""The largest number of Received fields; a message with more is in a loop (RFC 5321 §6.3)."""


class SmtpTransaction:
    """A transaction from MAIL to the end of the message."""

    def __init__(self, site: SmtpSite, sender: str, *, needs_smtputf8: bool, account_id: AccountId | None) -> None:
        self._site = site
        self.sender = sender
        self.needs_smtputf8 = needs_smtputf8
        self._account_id = account_id
        self._inboxes: list[Inbox] = []
        self._remote_recipients: list[str] = []
        self._message_id = ""
        self._has_message_id = False
        self._spooler: MessageSpooler | None = None
        self.unconfirmed: Fingerprint | None = None
        """The accepted message, until the client sends something after the reply."""

    @property
    def recipient_count(self) -> int:
        return len(self._inboxes) + len(self._remote_recipients)

    @property
    def has_content(self) -> bool:
        """Whether the message has begun."""
        return self._spooler is not None

    # ---- recipients

    async def add_recipient(self, address: str) -> None:
        """Add a recipient. Raises Refused."""
        if self.recipient_count >= RECIPIENTS_LIMIT:
            raise Refused(FULL)
        inbox = await self._site.deliveries.find(address)
        if inbox is not None:
            self._inboxes.append(inbox)
        elif self._site.deliveries.is_local(address):
            raise Refused(NO_USER)
        elif self._account_id is None:
            raise Refused(NO_RELAY)
        elif not self._site.deliveries.has_smarthost:
            raise Refused(NO_ROUTE)
        else:
            self._remote_recipients.append(address)

    # ---- the message

    def begin(self, received: Callable[[str, str | None], bytes]) -> MessageSpooler:
        """Return the message's spooler. `received` builds the trace field from an id and a single recipient."""

        def trace(header: bytes) -> bytes:
            return self._top(header, received)

        writer, has_digest = self._site.deliveries.blobs.writer(), self._account_id is not None
        self._spooler = MessageSpooler(writer, self._site.max_message_bytes, trace, has_digest=has_digest)
        return self._spooler

    def _top(self, header: bytes, received: Callable[[str, str | None], bytes]) -> bytes:
        """Return the fields to prepend to the header. Raises Refused for a mail loop."""
        fields = split_fields(header)
        if sum(1 for name, _ in fields if name == "received") > HOPS_LIMIT:
            raise Refused(LOOP)
        addresses = [*(inbox.address for inbox in self._inboxes), *self._remote_recipients]
        prepended = received(new_id("in"), addresses[0] if len(addresses) == 1 else None)
        if not self._remote_recipients:  # a message to other servers has no Return-Path
            prepended = return_path_field(self.sender) + prepended
        self._message_id = first_value(fields, "message-id") or ""
        self._has_message_id = bool(self._message_id)
        if self._account_id is not None:
            prepended += self._missing_fields({name for name, _ in fields})
        return prepended

    def _missing_fields(self, names: set[str]) -> bytes:
        """Return the fields that the client omitted (RFC 6409 §8)."""
        added = ""
        if "date" not in names:
            added += f"Date: {format_datetime(datetime.now(UTC))}\r\n"
        if not self._message_id:
            self._message_id = f"<{new_id('m')}@{self._site.hostname}>"
            added += f"Message-ID: {self._message_id}\r\n"
        return added.encode("ascii")

    async def finish(self, *, has_bare_line_end: bool) -> list[bytes]:
        """Store and deliver the message; return the reply, or with LMTP one for each recipient."""
        try:
            replies = await self._accepted(self._spooled(has_bare_line_end))
            faults.point("smtp.before_reply")
        except Refused as refusal:
            replies = [refusal.reply] * self._reply_count
        except Unavailable as error:
            replies = [reply_to(error)] * self._reply_count
        return replies

    @property
    def _reply_count(self) -> int:
        return self.recipient_count if self._site.role is ListenerRole.LMTP else 1

    @property
    def refusal(self) -> bytes | None:
        """Return the reply that will refuse the current message; None if none is known yet."""
        problem = self._spooler.problem if self._spooler is not None else None
        if problem is None or isinstance(problem, Refused):
            return problem.reply if problem is not None else None
        return reply_to(problem)

    def _spooled(self, has_bare_line_end: bool) -> BlobWriter:
        assert self._spooler is not None
        if has_bare_line_end:
            raise Refused(BARE_LINE_END)
        spool = self._spooler.finish()
        if spool is None:
            raise Refused(self.refusal or reply_to(StorageFull()))
        return spool

    async def _accepted(self, spool: BlobWriter) -> list[bytes]:
        """Deliver a message, unless it was already delivered and the client repeats it after a lost reply."""
        message = self._fingerprint()
        if message is None:
            return await self._deliver(await self._stored(spool))
        async with self._site.unconfirmed.turn(message) as is_known:
            self.unconfirmed = message
            if is_known:
                spool.discard()
                log.info("message_sent_again", account_id=self._account_id)
                return [OK]
            replies = await self._deliver(await self._stored(spool))
            if replies == [OK]:
                self._site.unconfirmed.add(message)
        return replies

    def _fingerprint(self) -> Fingerprint | None:
        """The fingerprint of a submitted message; None if it has none."""
        if self._account_id is None or not self._has_message_id or self._spooler is None:
            return None
        recipients = frozenset([*(inbox.address for inbox in self._inboxes), *self._remote_recipients])
        return Fingerprint(self._account_id, self.sender, recipients, self._message_id, self._spooler.digest)

    async def _stored(self, spool: BlobWriter) -> StoredContent:
        content = await self._site.deliveries.keep(spool)
        faults.point("smtp.kept")
        return content

    async def _deliver(self, content: StoredContent) -> list[bytes]:
        outgoing = None
        if self._remote_recipients:
            assert self._account_id is not None
            outgoing = Outgoing(
                self._account_id, self.sender, tuple(self._remote_recipients), self._message_id, self.needs_smtputf8
            )
        delivered = await self._site.deliveries.deliver(content, self._inboxes, outgoing)
        return self._replies(delivered) if outgoing is None else [OK]

    def _replies(self, delivered: Sequence[bool]) -> list[bytes]:
        if self._site.role is ListenerRole.LMTP:
            return [OK if is_delivered else NO_USER for is_delivered in delivered]
        return [OK if any(delivered) else NO_USER]

    def close(self) -> None:
        """Discard an unfinished message."""
        if self._spooler is not None:
            self._spooler.discard()


def trace_field(site: SmtpSite, helo: str, address: str, protocol: str) -> Callable[[str, str | None], bytes]:
    """Return a function that builds the Received field of a message in this session."""

    def received(queue_id: str, recipient: str | None) -> bytes:
        return received_field(
            helo=helo,
            peer=address,
            by=site.hostname,
            protocol=protocol,
            queue_id=queue_id,
            date_ms=now_ms(),
            recipient=recipient,
        )

    return received
