"""A client's commands as the server reads them: one dataclass a command (RFC 9051 §6 and the RFC named beside it)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.commands import KnownState
from app.wire.imap.framing import Part
from app.wire.imap.search import SavedResult, SearchKey
from app.wire.imap.sets import SequenceSet

MessageSet = SequenceSet | SavedResult
"""Which messages a command is about: a set, or `$` (RFC 5182)."""


@dataclass(frozen=True, slots=True)
class Simple:
    """A command without arguments; `name` is in upper case: CAPABILITY, NOOP, LOGOUT, STARTTLS, CHECK, CLOSE,
    UNSELECT, EXPUNGE, IDLE or NAMESPACE."""

    name: str


@dataclass(frozen=True, slots=True)
class Login:
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.username!r})"


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE, with SASL-IR's initial response (RFC 4959) still in base64, b"" where it was `=`."""

    mechanism: str
    initial_response: bytes | None = None

    def __repr__(self) -> str:
        return f"Authenticate({self.mechanism!r})"


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161), names in upper case."""

    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identify:
    """ID (RFC 2971), names in lower case."""

    fields: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS (RFC 4978)."""

    mechanism: str


@dataclass(frozen=True, slots=True)
class Resync:
    """SELECT (QRESYNC …) (RFC 7162 §3.2.5). `matched` pairs sequence numbers with UIDs that the client knows."""

    known: KnownState
    matched: tuple[SequenceSet, SequenceSet] | None = None


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT or EXAMINE; with a `resync` CONDSTORE is meant too."""

    mailbox: str
    is_read_only: bool = False
    condstore: bool = False
    resync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE; `use` holds special uses such as `\\Sent` (RFC 6154)."""

    mailbox: str
    use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    mailbox: str
    new_name: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    mailbox: str
    is_subscribed: bool = True


@dataclass(frozen=True, slots=True)
class ListMailboxes:
    """LIST, LIST-EXTENDED (RFC 5258) or LSUB. Options are in upper case; `status` holds those of LIST-STATUS.

    `is_extended` tells that the client used the extended form, and so knows its answers.
    """

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[str] = frozenset()
    returning: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    is_lsub: bool = False
    is_extended: bool = False


@dataclass(frozen=True, slots=True)
class MailboxStatusOf:
    """STATUS, items in upper case."""

    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT (RFC 9208)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class GetQuota:
    root: str


@dataclass(frozen=True, slots=True)
class AppendedMessage:
    """A message of an APPEND: its bytes, or where they were streamed to."""

    message: Part
    flags: tuple[str, ...] = ()
    received_at_ms: int | None = None
    utf8_headers: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND, of several messages with MULTIAPPEND (RFC 3502)."""

    mailbox: str
    messages: tuple[AppendedMessage, ...]


@dataclass(frozen=True, slots=True)
class UidExpunge:
    """UID EXPUNGE (RFC 4315)."""

    uids: MessageSet


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH or UID SEARCH; `returning` is None without RETURN, and () for `RETURN ()`, which means ALL (RFC 4731)."""

    key: SearchKey
    returning: frozenset[str] | None = None
    is_uid: bool = False


@dataclass(frozen=True, slots=True)
class SectionRequest:
    """BODY[…]<…>, BINARY[…]<…> or BINARY.SIZE[…] of a FETCH.

    `part` is the part's number, () for the message; `kind` is "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or
    MIME. `partial` is offset and count in bytes. `label` is how the answer names it.
    """

    part: tuple[int, ...] = ()
    kind: str = ""
    fields: tuple[str, ...] = ()
    partial: tuple[int, int] | None = None
    is_peek: bool = False
    name: str = "BODY"

    @property
    def label(self) -> bytes:
        """As the answer spells it: `BODY[1.HEADER.FIELDS (DATE)]<0>`."""
        section = ".".join([*map(str, self.part), *([self.kind] if self.kind else [])])
        fields = f" ({' '.join(map(_written_field, self.fields))})" if self.fields else ""
        origin = f"<{self.partial[0]}>" if self.partial else ""
        return f"{self.name}[{section}{fields}]{origin}".encode()


def _written_field(name: str) -> str:
    return f'"{name}"' if any(char in "(){%*" for char in name) else name


FetchItem = str | SectionRequest
"""A plain item in upper case (`UID`, `ENVELOPE`, `RFC822.SIZE`, …) or a body section."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH or UID FETCH, macros expanded; `changed_since` and `vanished` are of RFC 7162."""

    messages: MessageSet
    items: tuple[FetchItem, ...]
    is_uid: bool = False
    changed_since: int | None = None
    vanished: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """STORE or UID STORE. `mode` is "+", "-", or "" to replace; `unchanged_since` is of RFC 7162."""

    messages: MessageSet
    mode: str
    flags: tuple[str, ...]
    is_silent: bool = False
    is_uid: bool = False
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY, UID COPY, and with `is_move` MOVE, UID MOVE (RFC 6851)."""

    messages: MessageSet
    mailbox: str
    is_uid: bool = False
    is_move: bool = False


@dataclass(frozen=True, slots=True)
class WatchedGroup:
    """A group of NOTIFY SET (RFC 5465 §5).

    `filter` is SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES, of which the last two
    name `mailboxes`. `events` are spelled as the RFC does where it knows them, and empty for NONE; `new_items` is what
    MessageNew is to be told with.
    """

    filter: str
    mailboxes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    new_items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY (RFC 5465); no groups is NOTIFY NONE. `with_status` asks for the STATUS of each mailbox at once."""

    groups: tuple[WatchedGroup, ...] = ()
    with_status: bool = False


Command = (
    Simple
    | Login
    | Authenticate
    | Enable
    | Identify
    | Compress
    | Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | ListMailboxes
    | MailboxStatusOf
    | GetQuotaRoot
    | GetQuota
    | Append
    | UidExpunge
    | Search
    | Fetch
    | Store
    | Copy
    | Notify
)


@dataclass(frozen=True, slots=True)
class Request:
    tag: str
    command: Command
