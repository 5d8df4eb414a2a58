"""The Protocols of a mail backend: MailBackend (read and change mail) and Submission (send mail)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from app.mail.confirmed import Confirmed
from app.mail.delta import Arrived, Known, Placed
from app.mail.types import AccountId, Flags, Mailbox, Message, Role, ServerLogin


class SyncMode(StrEnum):
    """How Postgate learns of an account's changes."""

    NOTIFY = "notify"
    IDLE = "idle"
    SWEEP = "sweep"
    POLL = "poll"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from `start` to `stop`, exclusive. `stop` None means the end."""

    start: int = 0
    stop: int | None = None


WHOLE = ByteRange()


@dataclass(frozen=True, slots=True)
class OriginMailbox:
    """The LIST and STATUS data of one mailbox.

    The STATUS fields are None if the mailbox is not selectable or STATUS failed. `origin_id` is its MAILBOXID (RFC
    8474 §4), or None if the server does not support it.
    """

    origin_name: str
    path: str
    delimiter: str | None
    role: Role | None
    is_selectable: bool
    is_subscribed: bool
    uid_validity: int | None = None
    uid_next: int | None = None
    highest_modseq: int | None = None
    total: int | None = None
    unread: int | None = None
    origin_id: str | None = None


@dataclass(frozen=True, slots=True)
class BackendChanges:
    """Changes of a mailbox since a given MODSEQ. `vanished` None: the server cannot report it, so compare UID sets."""

    flags: Mapping[int, Known]
    vanished: Collection[int] | None
    uid_validity: int
    uid_next: int
    highest_modseq: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Something may have changed in these mailboxes (by origin name). An empty set means any mailbox."""

    origin_names: frozenset[str] = frozenset()
    status: tuple[OriginMailbox, ...] = ()
    """STATUS data that came with the signal (LIST-STATUS, NOTIFY), so that no further STATUS is needed."""
    has_new_mail: bool = False
    """Whether messages arrived in INBOX, rather than only flag changes or removals."""
    has_unnumbered_flags: bool = False
    """Whether flags in INBOX changed without a MODSEQ although the server supports CONDSTORE (RFC 7162 §3.2)."""

    def followed_by(self, later: Signal) -> Signal:
        """Combine two signals. The later STATUS data of a mailbox replaces the earlier."""
        names = self.origin_names | later.origin_names if self.origin_names and later.origin_names else frozenset()
        status = {mailbox.origin_name: mailbox for mailbox in (*self.status, *later.status)}
        return Signal(
            names,
            tuple(status.values()),
            self.has_new_mail or later.has_new_mail,
            self.has_unnumbered_flags or later.has_unnumbered_flags,
        )


class QuotaResource(StrEnum):
    """The resource that a quota limits (RFC 9208 §5)."""

    STORAGE = "storage"
    """Bytes."""
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Quota:
    """The limit and the use of a resource, in bytes or messages. `limit` None means unlimited."""

    root: str
    resource: QuotaResource
    used: int
    limit: int | None


class Watch(Protocol):
    """A running watch over all mailboxes of an account."""

    @property
    def mode(self) -> SyncMode: ...

    def signals(self) -> AsyncIterator[Signal]:
        """Yield signals. The iterator ends only by an error: Unreachable when the connection is lost."""
        ...

    async def close(self) -> None:
        """End the watch and close its connection. Safe to repeat."""
        ...


class MailBackend(Protocol):
    """Access to the mail of one account. Every call that changes mail returns what the mail server confirmed.

    All methods raise MailServerError (Unreachable, TimedOut, LoginRefused, ServerRefused, ServerProtocolError). The
    `messages` of one call may be in several mailboxes.
    """

    @property
    def host(self) -> str:
        """Host and port of the mail server; "" for an embedded account. Accounts of one host share its back-off."""
        ...

    # ---- reading

    async def capabilities(self) -> Sequence[str]:
        """Return the capabilities that the server confirmed, upper case, sorted."""
        ...

    async def quotas(self) -> Sequence[Quota] | None:
        """Return the quotas that apply to INBOX, empty if there are none. None if the server does not report quotas."""
        ...

    def read_raw(self, message: Message, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        """Yield the message's bytes in pieces of ≤ 256 KiB. Raises MessageNotFound if the server no longer has it."""
        ...

    def read_part(self, message: Message, section: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        """Yield the body of one part as stored, in its transfer encoding. Raises PartNotFound."""
        ...

    async def read_parts(self, message: Message, sections: Sequence[str]) -> Mapping[str, bytes]:
        """Return several small parts (still encoded) in one round trip. Section "HEADER" is the message's header."""
        ...

    async def contents(self, messages: Sequence[Message]) -> Mapping[int, bytes]:
        """Return UID → bytes for small messages of one mailbox, omitting missing ones. All are held in memory."""
        ...

    async def search(
        self, mailbox: Mailbox, scope: str, value: str, uids: Collection[int] | None = None
    ) -> Collection[int]:
        """Return the UIDs of messages whose body, text or header field contains `value`, ignoring case.

        `scope` is "body", "text" or "header:Name". An empty value matches every message that has the field. `uids`
        limits the search to these messages, if that is less work than a search of the whole mailbox.
        """
        ...

    # ---- changing

    async def append(
        self, mailbox: Mailbox, content: AsyncIterator[bytes], size_bytes: int, flags: Flags, received_at_ms: int | None
    ) -> Confirmed:
        """Add a message. The delta has one Arrived. `size_bytes` is exact. Raises TooLarge, ServerRefused (quota)."""
        ...

    async def store_flags(
        self,
        messages: Sequence[Message],
        *,
        add: Flags = frozenset(),
        remove: Flags = frozenset(),
        unchanged_since: int | None = None,
    ) -> Confirmed:
        """Change flags. `unchanged_since` (a MODSEQ, for one message) raises PreconditionFailed when it is newer."""
        ...

    async def move(self, messages: Sequence[Message], target: Mailbox) -> Confirmed: ...

    async def copy(self, messages: Sequence[Message], target: Mailbox) -> Confirmed: ...

    async def expunge(self, messages: Sequence[Message]) -> Confirmed:
        """Remove exactly these messages permanently."""
        ...

    async def create_mailbox(self, path: str, role: Role | None = None) -> Confirmed:
        """Raises AlreadyExists, and InvalidRequest for an invalid name."""
        ...

    async def rename_mailbox(self, mailbox: Mailbox, path: str) -> Confirmed:
        """Rename a mailbox together with its child mailboxes."""
        ...

    async def delete_mailbox(self, mailbox: Mailbox) -> Confirmed: ...

    async def set_subscribed(self, mailbox: Mailbox, is_subscribed: bool) -> Confirmed: ...

    # ---- following (used only by the sync worker)

    async def list_mailboxes(self) -> Sequence[OriginMailbox]: ...

    async def newest(self, mailbox: Mailbox, count: int, below_uid: int | None = None) -> Sequence[Arrived]:
        """Return the `count` messages with the highest UIDs (below `below_uid`), newest first."""
        ...

    def fetch(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncIterator[Sequence[Arrived]]:
        """Yield the messages with these UIDs in batches, in the order of `uids` if the server keeps it."""
        ...

    async def placements(self, mailbox: Mailbox, uids: Sequence[int]) -> Sequence[Placed]:
        """Return the placements of these messages; empty if the server keeps each message in one mailbox.

        A message whose `origin_id` is in the index need not be fetched again.
        """
        ...

    async def scan(self, mailbox: Mailbox, *, is_anew: bool = False) -> Mapping[int, Known]:
        """Return every UID of the mailbox with its flags and MODSEQ. `is_anew` verifies them on a new connection."""
        ...

    async def uids(self, mailbox: Mailbox) -> Sequence[int]:
        """Return every UID of the mailbox, ascending, at a tenth of the cost of `scan`."""
        ...

    async def present(self, mailbox: Mailbox, uids: Collection[int]) -> Collection[int]:
        """Return those UIDs that the mailbox has; empty if its UIDVALIDITY changed. Raises MailboxNotFound."""
        ...

    async def changes(self, mailbox: Mailbox) -> BackendChanges:
        """Return what changed since the mailbox's `highest_modseq`: by QRESYNC, else CONDSTORE, else all flags."""
        ...

    async def previews(self, messages: Sequence[Message]) -> Mapping[int, str]:
        """Return UID → preview for messages of one mailbox."""
        ...

    async def watch(self, mailboxes: Sequence[Mailbox]) -> Watch:
        """Start watching all mailboxes by the best extension that the server supports."""
        ...


class Verdict(StrEnum):
    """The result of one attempt for one recipient."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    """The whole message was sent, but no reply came."""


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """`response` is the server's line, without its code if an `enhanced_code` ("5.1.1") was parsed."""

    address: str
    verdict: Verdict
    enhanced_code: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """A message to send. `content` uses CRLF only and ends with CRLF; the sender does the dot-stuffing."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    needs_smtputf8: bool = False
    envelope_id: str | None = None
    dsn_notify: tuple[str, ...] = field(default=())


class Submission(Protocol):
    @property
    def host(self) -> str:
        """Host and port of the mail server. Accounts of one host share its back-off."""
        ...

    async def send(
        self, mail: OutgoingMail, before_content: Callable[[], Awaitable[None]] | None = None
    ) -> Sequence[RecipientResult]:
        """Send a message and return one result per recipient, in order.

        `before_content` is awaited after the server accepted a recipient and before the content is sent. What it
        records shows after a crash whether a retry is safe. Raises LoginRefused, or Unreachable if no content was
        sent, so that a retry is safe.
        """
        ...

    async def verify(self) -> None:
        """Connect and log in, and do nothing else."""
        ...


class Backends(Protocol):
    """Returns the backend of an account: local, IMAP or POP3.

    An account has one backend, which keeps its connections.
    """

    async def of(self, account_id: AccountId) -> MailBackend:
        """Return the account's backend without connecting. Raises AccountNotFound."""
        ...

    async def submission_of(self, account_id: AccountId) -> Submission:
        """Return how the account sends mail. Raises AccountNotFound; NotSupported if it cannot send."""
        ...

    async def verify(self, logins: Mapping[str, ServerLogin]) -> None:
        """Try these logins, by protocol (imap, pop3, smtp), concurrently, within 10 s.

        Raises AddressNotAllowed, LoginRefused, Unreachable …
        """
        ...

    async def forget(self, account_id: AccountId) -> None:
        """Close the connections of an account whose settings changed or that was removed."""
        ...

    async def forget_changed(self) -> None:
        """Close the connections of accounts that another process changed or removed. Raises Unavailable."""
        ...
