"""The types of a server's responses (RFC 9051 §7), one dataclass per response. `response_parser` makes them."""

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
    """OK, NO, BAD, BYE or PREAUTH. `tag` is None if the response is untagged."""

    tag: str | None
    kind: StatusKind
    code: ResponseCode | None
    text: str

    def __str__(self) -> str:
        """The response as the server sent it, without the tag."""
        code = f" [{self.code.name}{' ' if self.code.argument else ''}{self.code.argument}]" if self.code else ""
        return f"{self.kind}{code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Continuation:
    """A continuation request (`+`). `text` is base64 in a SASL exchange."""

    text: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """CAPABILITY. Names are in upper case."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Enabled:
    """ENABLED. Names are in upper case."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class ListedMailbox:
    """LIST or LSUB. `name` is in the form of `names.known_as`.

    `attributes` are in lower case (`\\noselect`). `delimiter` is None if the server has no hierarchy. `child_info` is
    CHILDINFO in upper case, `old_name` is OLDNAME.
    """

    name: str
    delimiter: str | None
    attributes: frozenset[str]
    is_lsub: bool = False
    child_info: frozenset[str] = frozenset()
    old_name: str | None = None
    shown: str = field(default="", compare=False)
    """The name for people, also if `name` holds raw bytes because the server's encoding is invalid."""


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """STATUS: numbers are in `items`, MAILBOXID and other texts in `texts`, by their names in upper case."""

    name: str
    items: dict[str, int]
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """SEARCH, in the server's order. `modseq` is the highest MODSEQ of the messages."""

    numbers: tuple[int, ...]
    modseq: int | None = None


@dataclass(frozen=True, slots=True)
class ESearchResult:
    """ESEARCH (RFC 4731). `tag` is the command's; `all` is None if it was not requested or there are no matches."""

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
    """EXPUNGE: the message with this number is gone, and all later numbers decrease by one."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Vanished:
    """VANISHED (RFC 7162 §3.2.10). With `is_earlier`, it reports earlier expunges, which shift no sequence numbers."""

    uids: SequenceSet
    is_earlier: bool


@dataclass(frozen=True, slots=True)
class MailboxFlags:
    """FLAGS of the selected mailbox."""

    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Namespaces:
    """NAMESPACE (RFC 2342): the prefix and delimiter of each namespace."""

    personal: tuple[tuple[str, str | None], ...]
    others: tuple[tuple[str, str | None], ...]
    shared: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class ServerId:
    """ID (RFC 2971). Names are in lower case."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Quota:
    """QUOTA (RFC 9208): usage and limit by resource (`STORAGE` in KiB, `MESSAGE`)."""

    root: str
    resources: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Unknown:
    """An unsupported response. `name` is in upper case."""

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
