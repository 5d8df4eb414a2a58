"""The Protocols behind which all mail is reached: MailBackend (read and organise) and Submission (send)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from app.mail.confirmed import Confirmed
from app.mail.delta import Arrived, Known, Placed
from app.mail.types import AccountId, Flags, Mailbox, Message, Role, ServerLogin


class SyncMode(StrEnum):
    """How changes of an account reach us."""

    NOTIFY = "notify"
    IDLE = "idle"
    SWEEP = "sweep"
    POLL = "poll"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `stop`, exclusive; `stop` None is the end."""

    start: int = 0
    stop: int | None = None


WHOLE = ByteRange()


@dataclass(frozen=True, slots=True)
class OriginMailbox:
    """LIST and STATUS of one mailbox. What STATUS tells is None where it cannot be selected or STATUS was refused.

    `origin_id` is its MAILBOXID (RFC 8474 §4), None where the origin gives none.
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
class Changes:
    """What a mailbox's origin says since a known MODSEQ. `vanished` None: the origin can't tell, compare UID sets."""

    flags: Mapping[int, Known]
    vanished: Collection[int] | None
    uid_validity: int
    uid_next: int
    highest_modseq: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Something may have changed in these mailboxes (by origin name); empty means anywhere."""

    origin_names: frozenset[str] = frozenset()
    status: tuple[OriginMailbox, ...] = ()
    """What the signal itself told (LIST-STATUS, NOTIFY's STATUS), so that nothing need be asked again."""
    has_new_mail: bool = False
    """Whether messages came into INBOX, and not only flags or removals."""
    has_unnumbered_flags: bool = False
    """Whether flags in INBOX changed without a MODSEQ, although the server supports it (RFC 7162 §3.2)."""

    def followed_by(self, later: Signal) -> Signal:
        """Both as a single signal; of a mailbox's numbers the later ones count."""
        names = self.origin_names | later.origin_names if self.origin_names and later.origin_names else frozenset()
        status = {mailbox.origin_name: mailbox for mailbox in (*self.status, *later.status)}
        return Signal(
            names,
            tuple(status.values()),
            self.has_new_mail or later.has_new_mail,
            self.has_unnumbered_flags or later.has_unnumbered_flags,
        )


class QuotaResource(StrEnum):
    """What a quota counts (RFC 9208 §5)."""

    STORAGE = "storage"
    """Bytes."""
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Quota:
    """What an origin allows of a resource, and what is used: bytes or messages. `limit` None: as much as there is."""

    root: str
    resource: QuotaResource
    used: int
    limit: int | None


class Watch(Protocol):
    """A running watch over all mailboxes of an account."""

    @property
    def mode(self) -> SyncMode: ...

    def signals(self) -> AsyncIterator[Signal]:
        """Ends only by an error: Unreachable when the connection is lost."""
        ...

    async def close(self) -> None:
        """End a watch whose signals nobody follows; its connection is its own. Safe to repeat."""
        ...


class MailBackend(Protocol):
    """One account's mail where it lives. Every changing call returns what the origin confirmed.

    All raise MailServerError (Unreachable, TimedOut, LoginRefused, ServerRefused, ServerProtocolError).
    `messages` of one call may lie in several mailboxes.
    """

    @property
    def host(self) -> str:
        """The mail server's host and port, "" for our own: accounts of one host share its troubles."""
        ...

    # ---- reading

    async def capabilities(self) -> Sequence[str]:
        """What the origin confirmed, upper case, sorted."""
        ...

    async def quotas(self) -> Sequence[Quota] | None:
        """What counts to the limits of INBOX, empty where it has none; None where the origin does not tell."""
        ...

    def read_raw(self, message: Message, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        """The message's bytes in pieces of ≤ 256 KiB; MessageNotFound when the origin has it no more."""
        ...

    def read_part(self, message: Message, section: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        """One part's body as stored, still in its transfer encoding; PartNotFound."""
        ...

    async def read_parts(self, message: Message, sections: Sequence[str]) -> Mapping[str, bytes]:
        """Several small parts (still encoded) in one round trip. Section "HEADER" is the message's header block."""
        ...

    async def contents(self, messages: Sequence[Message]) -> Mapping[int, bytes]:
        """UID → bytes of small messages of one mailbox, as far as they are there: all of them are in memory."""
        ...

    async def search(
        self, mailbox: Mailbox, scope: str, value: str, uids: Collection[int] | None = None
    ) -> Collection[int]:
        """UIDs whose body (`scope` "body"), whole text ("text") or header field ("header:Name") contains `value`,
        without regard to case. An empty value finds every message that has the field. `uids`: those alone are asked
        about, where that is less than all.
        """
        ...

    # ---- changing

    async def append(
        self, mailbox: Mailbox, content: AsyncIterator[bytes], size_bytes: int, flags: Flags, received_at_ms: int | None
    ) -> Confirmed:
        """Add a message; the delta holds one Arrived. `size_bytes` is exact. TooLarge, ServerRefused (quota)."""
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
        """Remove these messages for good, and no others."""
        ...

    async def create_mailbox(self, path: str, role: Role | None = None) -> Confirmed:
        """AlreadyExists, InvalidRequest for a name that cannot be."""
        ...

    async def rename_mailbox(self, mailbox: Mailbox, path: str) -> Confirmed:
        """Those below it go along."""
        ...

    async def delete_mailbox(self, mailbox: Mailbox) -> Confirmed: ...

    async def set_subscribed(self, mailbox: Mailbox, is_subscribed: bool) -> Confirmed: ...

    # ---- following (the sync worker alone)

    async def list_mailboxes(self) -> Sequence[OriginMailbox]: ...

    async def newest(self, mailbox: Mailbox, count: int, below_uid: int | None = None) -> Sequence[Arrived]:
        """The `count` messages with the highest UIDs (below `below_uid`), newest first."""
        ...

    def fetch(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncIterator[Sequence[Arrived]]:
        """Those messages in batches, in the order of `uids` as far as the origin keeps it."""
        ...

    async def placements(self, mailbox: Mailbox, uids: Sequence[int]) -> Sequence[Placed]:
        """What these messages are, where the origin keeps one message in several mailboxes; nothing at all elsewhere.

        What is known by its `origin_id` need not be fetched again.
        """
        ...

    async def scan(self, mailbox: Mailbox, *, is_anew: bool = False) -> Mapping[int, Known]:
        """Every UID of the mailbox with its flags and MODSEQ. `is_anew`: on a new connection, to make sure."""
        ...

    async def uids(self, mailbox: Mailbox) -> Sequence[int]:
        """Every UID of the mailbox, ascending: what `scan` tells without the flags, at a tenth of the cost."""
        ...

    async def present(self, mailbox: Mailbox, uids: Collection[int]) -> Collection[int]:
        """Those of the UIDs that the mailbox has; none where its UIDVALIDITY is another. MailboxNotFound."""
        ...

    async def changes(self, mailbox: Mailbox) -> Changes:
        """What changed since the mailbox's `highest_modseq`: QRESYNC, else CONDSTORE, else all flags."""
        ...

    async def previews(self, messages: Sequence[Message]) -> Mapping[int, str]:
        """UID → preview of messages of one mailbox."""
        ...

    async def watch(self, mailboxes: Sequence[Mailbox]) -> Watch:
        """Begin to watch all mailboxes by the best means that the origin confirms."""
        ...


class Verdict(StrEnum):
    """The result of an attempt for one recipient."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    """The message was handed over whole, and no reply came."""


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """`response` is the server's line, without its code where an `enhanced_code` ("5.1.1") was found."""

    address: str
    verdict: Verdict
    enhanced_code: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """One message to hand over. `content` has CRLF line ends alone and ends with one; dot-stuffing is the sender's."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    needs_smtputf8: bool = False
    envelope_id: str | None = None
    dsn_notify: tuple[str, ...] = field(default=())


class Submission(Protocol):
    @property
    def host(self) -> str:
        """The mail server's host and port: accounts of one host share its troubles."""
        ...

    async def send(
        self, mail: OutgoingMail, before_content: Callable[[], Awaitable[None]] | None = None
    ) -> Sequence[RecipientResult]:
        """Hand a message over: one result per recipient, in order.

        `before_content` is awaited when a recipient was accepted and the message is about to go: what it records
        tells, after a crash, whether a retry is safe. Raises LoginRefused; Unreachable when nothing was handed over,
        so that a retry is safe. Never both.
        """
        ...

    async def verify(self) -> None:
        """Connect and log in, nothing more."""
        ...


class Backends(Protocol):
    """Hands out the backend of an account: local, IMAP or POP3. One backend an account, kept with its connections."""

    async def of(self, account_id: AccountId) -> MailBackend:
        """Raises AccountNotFound. Connects to nothing yet."""
        ...

    async def submission_of(self, account_id: AccountId) -> Submission:
        """How mail of this account leaves. Raises AccountNotFound; NotSupported where it can't send."""
        ...

    async def verify(self, logins: Mapping[str, ServerLogin]) -> None:
        """Try these logins, by protocol (imap, pop3, smtp), side by side, within 10 s.

        Raises AddressNotAllowed, LoginRefused, Unreachable …
        """
        ...

    async def forget(self, account_id: AccountId) -> None:
        """Close what is open for an account whose settings changed or which was removed."""
        ...

    async def forget_changed(self) -> None:
        """Close what is open for accounts that another process has changed or removed. Unavailable."""
        ...
