"""Facts about changed mail: how backends, servers and services update the index.

A Delta is a set of facts and can be applied twice safely. Facts name messages by (mailbox, UID), never by row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from app.mail.events import EventData
from app.mail.searchable import Searchable
from app.mail.types import SYSTEM_FLAGS, BodyPart, Flags, MailboxId, Overview, Role


class Reason(StrEnum):
    """Why a message was removed."""

    EXPUNGED = "expunged"
    MERGED = "merged"
    """The row was the arrival of a move; the moved message keeps its own id."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a message is. A UID is only meaningful with its mailbox and that mailbox's UIDVALIDITY."""

    mailbox_id: MailboxId
    uid: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """The response of the embedded IMAP server for a message, made once at delivery."""

    header: bytes
    envelope: bytes
    body_structure: bytes


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message is in a mailbox. `uid` 0 and `modseq` 0 ask the index to assign them (embedded accounts).

    `is_announced` False: the initial sync or a reset found it, and the row is added without its own event.
    `origin_id` is EMAILID (RFC 8474) or X-GM-MSGID. `uid_validity` None skips the check against the mailbox's.
    """

    mailbox_id: MailboxId
    uid: int
    flags: Flags
    received_at_ms: int
    size_bytes: int
    overview: Overview
    structure: BodyPart | None
    modseq: int = 0
    preview: str | None = None
    blob: str | None = None
    origin_id: str | None = None
    origin_thread_id: str | None = None
    """THREADID (RFC 8474) or X-GM-THRID."""
    uid_validity: int | None = None
    problems: tuple[str, ...] = ()
    rendered: Rendered | None = None
    is_announced: bool = True
    is_shared: bool = False
    """The same `origin_id` in several mailboxes is one message (X-GM-EXT-1): if it exists, this adds a placement."""
    is_on_server: bool | None = None
    """Whether the POP3 server still has it; None for other accounts."""
    unread: str | None = None
    """Why the server returns neither header nor structure; None if it does."""

    def bare(self) -> Arrived:
        """The message without its texts, for a database that rejects one of them."""
        return replace(
            self,
            flags=self.flags & frozenset(SYSTEM_FLAGS),
            overview=Overview(),
            preview="",
            origin_id=None,
            origin_thread_id=None,
            problems=("its header cannot be stored in the index",),
            is_shared=False,
        )


@dataclass(frozen=True, slots=True)
class Placed:
    """A message that is in the index, identified by `origin_id`, is in this mailbox too; see `Arrived.is_shared`.

    Ignored if no message has this `origin_id`.
    """

    mailbox_id: MailboxId
    uid: int
    flags: Flags
    origin_id: str
    modseq: int = 0
    uid_validity: int | None = None
    is_announced: bool = True


@dataclass(frozen=True, slots=True)
class Flagged:
    """A message has exactly these flags. A `modseq` older than the index's is ignored; 0 always counts as newer."""

    location: Location
    flags: Flags
    modseq: int = 0


@dataclass(frozen=True, slots=True)
class Moved:
    """A message moved to another mailbox (COPYUID, or matched by identity). `target.uid` 0: as in Arrived."""

    source: Location
    target: Location
    modseq: int = 0


@dataclass(frozen=True, slots=True)
class Copied:
    """A message was copied. `target.uid` 0: the index assigns it. `is_shared`: the copy is a placement."""

    source: Location
    target: Location
    modseq: int = 0
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    location: Location
    reason: Reason = Reason.EXPUNGED


@dataclass(frozen=True, slots=True)
class Previewed:
    """The preview of a message that was listed before its text was read. Not a change of mail: no event."""

    location: Location
    preview: str


@dataclass(frozen=True, slots=True)
class TextExtracted:
    """The text of a message for the full-text index; None: it is left out. Not a change of mail: no event."""

    location: Location
    text: Searchable | None
    digest: str | None = None
    """The digest of the message's bytes, if all of them were read."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The content of a message whose header alone was known, or the reason why it cannot be read (`unread`)."""

    location: Location
    content: Arrived


@dataclass(frozen=True, slots=True)
class OnServer:
    """Whether the POP3 server still has a message that came from it."""

    location: Location
    is_on_server: bool


@dataclass(frozen=True, slots=True)
class MailboxFound:
    """A mailbox exists on the mail server with these properties.

    `origin_name` identifies it; a new one gets an event. `uid_validity` 0 asks the index to assign it (embedded
    accounts).
    """

    origin_name: str
    path: str
    delimiter: str | None
    role: Role | None
    uid_validity: int
    is_subscribed: bool = True
    is_selectable: bool = True
    is_newcomer: bool = False
    """If the mailbox is new, it appeared after the account's mail was synced."""
    origin_id: str | None = None
    """None keeps the stored value."""


@dataclass(frozen=True, slots=True)
class MailboxRenamed:
    """The same mailbox with a new name. Its child mailboxes are separate facts."""

    mailbox_id: MailboxId
    path: str
    origin_name: str


@dataclass(frozen=True, slots=True)
class MailboxSet:
    """Properties set through the API or by a client; None keeps a value. `is_role_cleared` removes the role."""

    mailbox_id: MailboxId
    is_subscribed: bool | None = None
    role: Role | None = None
    is_role_cleared: bool = False


@dataclass(frozen=True, slots=True)
class MailboxCounted:
    """STATUS data of a mailbox. Totals are used until `is_complete`; after that the index counts itself."""

    mailbox_id: MailboxId
    uid_next: int | None = None
    highest_modseq: int | None = None
    total: int | None = None
    unread: int | None = None
    is_complete: bool | None = None


@dataclass(frozen=True, slots=True)
class MailboxTroubled:
    """The reason why part of a mailbox cannot be read from its server; None: all of it can be read."""

    mailbox_id: MailboxId
    problem: str | None


@dataclass(frozen=True, slots=True)
class MailboxReset:
    """UIDVALIDITY changed: all known UIDs are void. One event for the mailbox, not one per message."""

    mailbox_id: MailboxId
    uid_validity: int


@dataclass(frozen=True, slots=True)
class MailboxDeleted:
    mailbox_id: MailboxId


@dataclass(frozen=True, slots=True)
class Note:
    """An event that is not a change of mail, for example `sync.progress` or `submission.sent`."""

    event: EventData
    subject: str


@dataclass(frozen=True, slots=True)
class Delta:
    """Facts of one transaction, applied in the order of the fields."""

    mailboxes_found: tuple[MailboxFound, ...] = ()
    mailboxes_renamed: tuple[MailboxRenamed, ...] = ()
    mailboxes_reset: tuple[MailboxReset, ...] = ()
    mailboxes_set: tuple[MailboxSet, ...] = ()
    moved: tuple[Moved, ...] = ()
    copied: tuple[Copied, ...] = ()
    arrived: tuple[Arrived, ...] = ()
    placed: tuple[Placed, ...] = ()
    flagged: tuple[Flagged, ...] = ()
    removed: tuple[Removed, ...] = ()
    previewed: tuple[Previewed, ...] = ()
    texted: tuple[TextExtracted, ...] = ()
    completed: tuple[Completed, ...] = ()
    held: tuple[OnServer, ...] = ()
    mailboxes_counted: tuple[MailboxCounted, ...] = ()
    mailboxes_troubled: tuple[MailboxTroubled, ...] = ()
    mailboxes_deleted: tuple[MailboxDeleted, ...] = ()
    notes: tuple[Note, ...] = ()

    def __add__(self, other: Delta) -> Delta:
        return Delta(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def singles(self) -> Iterator[Delta]:
        """Yield the same facts in the same order, one per Delta."""
        for field in fields(self):
            for fact in getattr(self, field.name):
                yield replace(Delta(), **{field.name: (fact,)})

    def bare(self) -> Delta:
        """The same facts without the texts of messages, for a database that rejects one of them."""
        return replace(
            self,
            arrived=tuple(arrived.bare() for arrived in self.arrived),
            previewed=tuple(replace(previewed, preview="") for previewed in self.previewed),
            texted=tuple(replace(texted, text=None) for texted in self.texted),
            completed=tuple(replace(completed, content=completed.content.bare()) for completed in self.completed),
        )

    @property
    def facts(self) -> int:
        """The number of facts."""
        return sum(len(getattr(self, field.name)) for field in fields(self))


UNTOLD: Flags = frozenset({""})
"""The flags of an existing message for which the server returns no flags."""


@dataclass(frozen=True, slots=True)
class Known:
    """Flags and MODSEQ of one message."""

    flags: Flags
    modseq: int = 0

    @property
    def is_told(self) -> bool:
        """Whether the flags are known."""
        return self.flags != UNTOLD


def difference(
    mailbox_id: MailboxId, before: Mapping[int, Known], after: Mapping[int, Known]
) -> tuple[Delta, Sequence[int]]:
    """Return the Delta that changes the UIDs and flags of `before` to those of `after`, and the UIDs to fetch.

    Both map UID → flags in ascending order; the results are in ascending order too.
    """
    flagged = tuple(
        Flagged(Location(mailbox_id, uid), now.flags, now.modseq)
        for uid, now in after.items()
        if uid in before and before[uid].flags != now.flags and now.is_told
    )
    removed = tuple(Removed(Location(mailbox_id, uid)) for uid in before if uid not in after)
    return Delta(flagged=flagged, removed=removed), array("I", (uid for uid in after if uid not in before))
