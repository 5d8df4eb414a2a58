"""The types of mail, as plain frozen values. No I/O, no tables, no JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, NewType, Protocol

AccountId = NewType("AccountId", str)
MailboxId = NewType("MailboxId", str)
MessageId = NewType("MessageId", str)
"""Postgate's own stable id (`msg_…`), never the Message-ID header."""
ThreadId = NewType("ThreadId", str)
SubmissionId = NewType("SubmissionId", str)
TokenId = NewType("TokenId", str)

Uid = NewType("Uid", int)

SEEN, ANSWERED, FLAGGED, DELETED, DRAFT = "\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"
SYSTEM_FLAGS = (ANSWERED, FLAGGED, DELETED, SEEN, DRAFT)

Flags = frozenset[str]
r"""IMAP flags as the index holds them: system flags in RFC spelling (`\Seen`), keywords as first spelled.

`\Recent` is never stored: it belongs to a session.
"""


class Position(NamedTuple):
    """A place in an account's event log: the number of an event, and its time, which distinguishes logs.

    Positions of one log are ordered by their number.
    """

    seq: int
    at_ms: int


class Role(StrEnum):
    """What a mailbox is for (RFC 6154, RFC 8621 §2)."""

    INBOX = "inbox"
    SENT = "sent"
    DRAFTS = "drafts"
    TRASH = "trash"
    JUNK = "junk"
    ARCHIVE = "archive"
    ALL = "all"
    FLAGGED = "flagged"


class AccountKind(StrEnum):
    IMAP = "imap"
    POP3 = "pop3"
    EMBEDDED = "embedded"

    @property
    def is_kept_here(self) -> bool:
        """Whether Postgate stores the mail and assigns UIDs and MODSEQs."""
        return self is not AccountKind.IMAP


class TransportSecurity(StrEnum):
    """How a connection is protected: TLS from the first byte, STARTTLS, or not at all."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class AccessTokens(Protocol):
    """Supplies the OAuth access tokens of one login (RFC 6749 §1.4), and renews them before they expire."""

    async def token(self, *, refused: str | None = None) -> str:
        """Return an access token to log in with; never `refused`, which a mail server has just declined.

        Raises LoginRefused if the grant has ended and the owner must consent again, or while new tokens are in doubt;
        Unreachable, TimedOut.
        """
        ...

    def doubt(self, fresh: str) -> None:
        """Report that a mail server declined a replacement token: for a while no further token is requested."""
        ...


@dataclass(frozen=True, slots=True)
class ServerLogin:
    """A mail server and the login for it: by password, or by `tokens` if given. `repr` never shows a secret."""

    host: str
    port: int
    security: TransportSecurity
    username: str
    password: str = ""
    tokens: AccessTokens | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"ServerLogin({self.username!r} at {self.host}:{self.port}, {self.security})"


@dataclass(frozen=True, slots=True)
class Address:
    """A decoded display name ("" if absent) and an addr-spec."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class EnvelopeAddress:
    """An address as IMAP encodes it (RFC 9051 §7.5.2): fields undecoded, None for NIL.

    `host` None marks a group: its start if `mailbox` is set, else its end.
    """

    name: str | None
    route: str | None
    mailbox: str | None
    host: str | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """ENVELOPE (RFC 9051 §7.5.2): header texts unfolded but undecoded (with encoded-words), None for NIL.

    8-bit bytes are surrogateescape'd UTF-8.
    """

    date: str | None = None
    subject: str | None = None
    from_: tuple[EnvelopeAddress, ...] = ()
    sender: tuple[EnvelopeAddress, ...] = ()
    reply_to: tuple[EnvelopeAddress, ...] = ()
    to: tuple[EnvelopeAddress, ...] = ()
    cc: tuple[EnvelopeAddress, ...] = ()
    bcc: tuple[EnvelopeAddress, ...] = ()
    in_reply_to: str | None = None
    message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """The header fields of a message that lists show, decoded.

    `date_ms` is the Date header in ms since 1970 UTC, None if absent or invalid. `message_id_header`, `in_reply_to`
    and `references` keep their angle brackets. `to_groups` and the like are the names of the groups (RFC 5322 §3.4)
    that contain the addresses.
    """

    subject: str = ""
    from_: tuple[Address, ...] = ()
    sender: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    date_ms: int | None = None
    message_id_header: str | None = None
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    to_groups: tuple[str, ...] = ()
    cc_groups: tuple[str, ...] = ()
    bcc_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One node of a message's body structure (BODYSTRUCTURE, RFC 9051 §7.5.2).

    `section` is its IMAP part number ("1", "2.1"). The root of a multipart has "", and a single-part message has "1".
    A multipart that is the body of a message/rfc822 has no number: its section is "2.TEXT" if that part is "2"
    (§6.4.5). `media_type` is lower case ("text/plain"). `params` and `disposition_params` have lower-case names and
    undecoded values, in order of appearance. `size_bytes` and `lines` are of the encoded body as stored. `children`
    holds the parts of a multipart, or the one body of a message/rfc822. `span` is (header start, body start, body
    end) as byte offsets in the message, known only for embedded accounts.
    """

    section: str
    media_type: str
    params: tuple[tuple[str, str], ...] = ()
    content_id: str | None = None
    description: str | None = None
    encoding: str = "7bit"
    size_bytes: int = 0
    lines: int | None = None
    md5: str | None = None
    disposition: str | None = None
    disposition_params: tuple[tuple[str, str], ...] = ()
    language: tuple[str, ...] = ()
    location: str | None = None
    envelope: Envelope | None = None
    children: tuple[BodyPart, ...] = ()
    span: tuple[int, int, int] | None = None

    @property
    def is_multipart(self) -> bool:
        return self.media_type.startswith("multipart/")

    def param(self, name: str) -> str | None:
        """Return the undecoded value of a Content-Type parameter, or None."""
        return next((value for key, value in self.params if key == name), None)

    def walk(self) -> Iterator[BodyPart]:
        """Yield this node and all below it, in order, into message/rfc822 too. Iterative, so any depth is safe."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting.extend(reversed(part.children))


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox in the index.

    `path` is the readable path with "/" between levels ("Work/Projects"). `origin_name` is the name on the server
    (see `wire.imap.names.known_as`) with the server's `delimiter` ("INBOX.Work.Projects"). INBOX is always spelled
    "INBOX". `is_complete`: every message of the server is in the index. `is_newcomer`: the mailbox appeared after the
    account's mail was synced, and until it is complete it may hold moved messages. `origin_id` identifies it on the
    server regardless of its name (MAILBOXID, RFC 8474), or is None.
    """

    id: MailboxId
    account_id: AccountId
    path: str
    role: Role | None
    uid_validity: int
    uid_next: int
    highest_modseq: int
    total: int
    unread: int
    is_subscribed: bool
    is_selectable: bool
    parent_id: MailboxId | None
    origin_name: str
    delimiter: str | None
    is_complete: bool
    is_newcomer: bool = False
    origin_id: str | None = None
    problem: str | None = None
    """Why part of it cannot be read from its server; None if all of it can."""

    @property
    def name(self) -> str:
        """The last level of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the index: what every operation on it needs, without its bytes.

    `version` is the number of the last event that changed it: its ETag, and in an embedded account its MODSEQ.
    `summary` is the prepared JSON object of `view=summary`. `blob` is the hash of the stored bytes, None if only the
    mail server has them.
    """

    id: MessageId
    account_id: AccountId
    mailbox_id: MailboxId
    uid: int
    modseq: int
    version: int
    flags: Flags
    received_at_ms: int
    size_bytes: int
    thread_id: ThreadId
    message_id_header: str | None
    preview: str | None
    blob: str | None
    summary: bytes
    further: int = 0
    """The number of further placements: on Gmail a message may be in several mailboxes."""


@dataclass(frozen=True, slots=True)
class Detail:
    """The other data that the index holds of a message, read for one message, never for a list."""

    structure: BodyPart | None
    bcc: tuple[Address, ...]
    problems: tuple[str, ...]
    header: bytes | None


API_KEYWORDS = {"$seen": SEEN, "$answered": ANSWERED, "$flagged": FLAGGED, "$draft": DRAFT, "$deleted": DELETED}
_TO_API = {flag: keyword for keyword, flag in API_KEYWORDS.items()}


def keywords_of(flags: Flags) -> list[str]:
    r"""Return flags as API keywords (RFC 8621 §4.1.1), sorted: `\Seen` is `$seen`, keywords in lower case."""
    return sorted(_TO_API.get(flag) or flag.lower() for flag in flags)


def flag_of(keyword: str) -> str:
    """Return the IMAP flag of an API keyword, the inverse of `keywords_of`."""
    return API_KEYWORDS.get(keyword.lower(), keyword)


def with_flags(flags: Flags, *, add: Flags = frozenset(), remove: Flags = frozenset()) -> Flags:
    """Return the flags after a change. Flags compare ignoring case (RFC 9051 §2.3.2); the first spelling is kept."""
    removed = {flag.lower() for flag in remove}
    by_name = {flag.lower(): flag for flag in flags if flag.lower() not in removed}
    for flag in add:
        by_name.setdefault(flag.lower(), flag)
    return frozenset(by_name.values())


def without_spans(part: BodyPart) -> BodyPart:
    """Return the tree without byte offsets, to compare two sources of one message."""
    return replace(part, span=None, children=tuple(without_spans(child) for child in part.children))
