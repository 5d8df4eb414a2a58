"""What a server says, with types (RFC 9051 §7): one dataclass a response. `response_parser` makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from app.wire.imap.codes import ResponseCode
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet


class StatusKind(StrEnum):
    OK = "OK"
    NO = "NO"
    BAD = "BAD"
    BYE = "BYE"
    PREAUTH = "PREAUTH"


@dataclass(frozen=True, slots=True)
class Status:
    """OK, NO, BAD, BYE or PREAUTH; `tag` is None for an untagged one."""

    tag: str | None
    kind: StatusKind
    code: ResponseCode | None
    text: str

    def __str__(self) -> str:
        """As the server said it, without the tag."""
        code = f" [{self.code.name}{' ' if self.code.argument else ''}{self.code.argument}]" if self.code else ""
        return f"{self.kind}{code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Continuation:
    """`+`: go ahead. `text` is base64 in a SASL exchange."""

    text: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """CAPABILITY, in upper case."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Enabled:
    """ENABLED, in upper case."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class ListedMailbox:
    """LIST or LSUB. `name` is that of `names.known_as`.

    `attributes` are in lower case (`\\noselect`), `delimiter` is None where names are flat.

    `child_info` holds what CHILDINFO says of the mailboxes below (in upper case), `old_name` OLDNAME.
    """

    name: str
    delimiter: str | None
    attributes: frozenset[str]
    is_lsub: bool = False
    child_info: frozenset[str] = frozenset()
    old_name: str | None = None
    shown: str = field(default="", compare=False)
    """The name for people, where `name` is bytes that no encoder would write."""


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """STATUS: `items` by name in upper case; MAILBOXID and others that are not numbers are in `texts`."""

    name: str
    items: dict[str, int]
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """SEARCH, in the server's order; `modseq` is the highest of those found."""

    numbers: tuple[int, ...]
    modseq: int | None = None


@dataclass(frozen=True, slots=True)
class ESearchResult:
    """ESEARCH (RFC 4731). `tag` is that of the command; `all` is None where it wasn't asked or nothing was found."""

    tag: str | None
    is_uid: bool
    min: int | None = None
    max: int | None = None
    count: int | None = None
    all: SequenceSet | None = None
    modseq: int | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    count: int


@dataclass(frozen=True, slots=True)
class Recent:
    count: int


@dataclass(frozen=True, slots=True)
class Expunged:
    """EXPUNGE: the message with this number is gone, and all behind it moved down by one."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Vanished:
    """VANISHED (RFC 7162 §3.2.10); `is_earlier` for earlier removals, which do not shift sequence numbers."""

    uids: SequenceSet
    is_earlier: bool


@dataclass(frozen=True, slots=True)
class MailboxFlags:
    """FLAGS of the selected mailbox."""

    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Namespaces:
    """NAMESPACE (RFC 2342): prefix and delimiter of each."""

    personal: tuple[tuple[str, str | None], ...]
    others: tuple[tuple[str, str | None], ...]
    shared: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class ServerId:
    """ID (RFC 2971), names in lower case."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Quota:
    """QUOTA (RFC 9208): resource (`STORAGE` in KiB, `MESSAGE`) to usage and limit."""

    root: str
    resources: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A response that nothing here reads; `name` in upper case."""

    name: str


ServerResponse = (
    Status
    | Continuation
    | Capabilities
    | Enabled
    | ListedMailbox
    | MailboxStatus
    | SearchResult
    | ESearchResult
    | Exists
    | Recent
    | Expunged
    | Vanished
    | MailboxFlags
    | Namespaces
    | ServerId
    | Quota
    | FetchedMessage
    | Unknown
)
