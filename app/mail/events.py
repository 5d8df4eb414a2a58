"""All events: their types, their data, who may see them, and what is stored of them for `/changes`.

To add an event, add a class here and the code that emits it. The log, the filter for limited tokens, the types that a
subscription may name, docs/events.md, openapi.json and asyncapi.yaml are derived from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from typing import ClassVar, Final, Literal


class Audience(StrEnum):
    """Who may see an event, among callers that see only part of an account."""

    MAILBOX = "mailbox"
    """Callers that see the mailbox of the event."""
    MAILBOX_PATH = "mailbox_path"
    """The same, with the path as the caller sees it."""
    MAILBOX_SUBJECT = "mailbox_subject"
    """Callers that see the mailbox that is the subject of the event."""
    MAILBOXES = "mailboxes"
    """Callers that see one of `mailbox_ids`; each gets only the ids that it sees."""
    MOVE = "move"
    """Callers that see a mailbox before or after the move."""
    SEVERAL = "several"
    """Callers that see one of the mailboxes that hold the message."""
    THREAD = "thread"
    """Callers that see a message of the thread."""
    SUBMISSION = "submission"
    """Callers that may send as the sender."""
    ACCOUNT = "account"
    """All callers that may read the account."""
    WHOLE_ACCOUNT = "whole_account"
    """Only callers that see the whole account."""


class Absent(Enum):
    """The value of a field that an event leaves out."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT

Ending = tuple[Sequence[str] | None, str]
"""The mailboxes that the subject left (None: the subject is a deleted mailbox), and the reason."""


@dataclass(frozen=True, slots=True)
class EventData:
    """The data of an event, without `account_id`, which every event has."""

    type: ClassVar[str]
    when: ClassVar[str]
    audience: ClassVar[Audience] = Audience.MAILBOX

    def facts(self) -> dict[str, object]:
        """The fields by their JSON names, without absent ones."""
        values = {field.name.rstrip("_"): getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not ABSENT}

    def ending(self) -> Ending | None:
        """What `/changes` reports after the log is trimmed, if the event ended something."""
        return None


# ---- messages


@dataclass(frozen=True, slots=True)
class MessageCreated(EventData):
    type = "message.created"
    when = "A message is in a mailbox. `message` is its summary, so no second call is needed."
    mailbox_id: str
    message: object


@dataclass(frozen=True, slots=True)
class MessageUpdated(EventData):
    type = "message.updated"
    when = (
        "The keywords of a message changed, or its mail server returned it after an error: read it again then. For "
        "mail from a POP3 server also: its content was downloaded, or the server no longer has it. The event has the "
        "new values of all changed fields, except those of the header."
    )
    audience = Audience.SEVERAL
    mailbox_id: str
    message_id: str
    changed: Sequence[str]
    keywords: Sequence[str]
    mailbox_ids: Sequence[str] | Absent = ABSENT
    on_server: bool | Absent = ABSENT
    size_bytes: int | Absent = ABSENT
    has_attachments: bool | Absent = ABSENT
    preview: str | Absent | None = ABSENT


@dataclass(frozen=True, slots=True)
class MessageMoved(EventData):
    type = "message.moved"
    when = (
        "A message moved to another mailbox and kept its id; on Gmail, its labels changed. `from` and `to` are all "
        "its mailboxes before and after."
    )
    audience = Audience.MOVE
    message_id: str
    from_: Sequence[str]
    to: Sequence[str]

    def ending(self) -> Ending:
        return self.from_, "moved"


@dataclass(frozen=True, slots=True)
class MessageDeleted(EventData):
    type = "message.deleted"
    when = "A message was deleted: `expunged`, `merged` into another, or `moved` to a mailbox hidden from the token."
    message_id: str
    mailbox_id: str
    uid: int | None
    uid_validity: int
    reason: Literal["expunged", "merged", "moved"]

    def ending(self) -> Ending:
        return [self.mailbox_id], self.reason


@dataclass(frozen=True, slots=True)
class ThreadUpdated(EventData):
    type = "thread.updated"
    when = (
        "A message joined or left a thread of several messages, or one of its messages changed. One event for each "
        "change. `merged` has the threads that were merged into it."
    )
    audience = Audience.THREAD
    thread_id: str
    merged: Sequence[str]


# ---- mailboxes


@dataclass(frozen=True, slots=True)
class MailboxEvent(EventData):
    """An event of a mailbox."""

    audience = Audience.MAILBOX_PATH
    mailbox_id: str
    path: str
    name: str
    role: str | None
    is_subscribed: bool
    uid_validity: int


@dataclass(frozen=True, slots=True)
class MailboxCreatedEvent(MailboxEvent):
    type = "mailbox.created"
    when = "A mailbox was created, with the messages in it."


@dataclass(frozen=True, slots=True)
class MailboxUpdatedEvent(MailboxEvent):
    type = "mailbox.updated"
    when = (
        "The name, role or subscription of a mailbox changed, or whether all of it can be read. `problem` says why "
        "some of it cannot."
    )
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class MailboxDeletedEvent(MailboxEvent):
    type = "mailbox.deleted"
    when = "A mailbox was deleted, with all messages in it."

    def ending(self) -> Ending:
        return None, "deleted"


@dataclass(frozen=True, slots=True)
class MailboxResetEvent(MailboxEvent):
    type = "mailbox.reset"
    when = "The UIDVALIDITY of a mailbox changed: list it again."


# ---- the account


@dataclass(frozen=True, slots=True)
class SyncProgress(EventData):
    type = "sync.progress"
    when = "The initial sync made progress. `is_complete` is true in the last of these events."
    audience = Audience.MAILBOX_SUBJECT
    mailbox_id: str
    indexed: int
    total: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class AccountConnected(EventData):
    type = "account.connected"
    when = "The mail server is connected, and its changes are followed."
    audience = Audience.ACCOUNT
    sync_mode: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AccountTrouble(EventData):
    """A problem with the mail server: the code and the detail of the problem."""

    audience = Audience.ACCOUNT
    code: str
    detail: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AccountDisconnected(AccountTrouble):
    type = "account.disconnected"
    when = "The connection to the mail server was lost; it is retried."


@dataclass(frozen=True, slots=True)
class AccountAuthRequired(AccountTrouble):
    type = "account.auth_required"
    when = "The mail server refused the login; it is not retried until the credentials change."


@dataclass(frozen=True, slots=True)
class AccountThrottled(AccountTrouble):
    type = "account.throttled"
    when = "The mail server limits the account; the connection is retried later."


@dataclass(frozen=True, slots=True)
class AccountResync(EventData):
    type = "account.resync"
    when = "The UIDVALIDITY of these mailboxes changed."
    audience = Audience.MAILBOXES
    mailbox_ids: Sequence[str]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QuotaChanged(EventData):
    type = "quota.changed"
    when = (
        "The mail server set another limit, or the use crossed a tenth of one. Postgate reads it at each connection "
        "and every 10 minutes. `items` are as in the answer of `/quota`."
    )
    audience = Audience.WHOLE_ACCOUNT
    counted_by: str
    items: Sequence[object]


# ---- sending


@dataclass(frozen=True, slots=True)
class SubmissionEvent(EventData):
    """An event of a submission."""

    audience = Audience.SUBMISSION
    submission_id: str
    status: str
    message_id_header: str
    recipients: Sequence[object]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SubmissionQueued(SubmissionEvent):
    type = "submission.queued"
    when = "A message to send was accepted or rescheduled."


@dataclass(frozen=True, slots=True)
class SubmissionSent(SubmissionEvent):
    type = "submission.sent"
    when = "The next mail server accepted the message."


@dataclass(frozen=True, slots=True)
class SubmissionDeferred(SubmissionEvent):
    type = "submission.deferred"
    when = "Sending failed for now and is retried."


@dataclass(frozen=True, slots=True)
class SubmissionFailed(SubmissionEvent):
    type = "submission.failed"
    when = "The message was refused or cancelled, or sending was abandoned."


@dataclass(frozen=True, slots=True)
class SubmissionUncertain(SubmissionEvent):
    type = "submission.uncertain"
    when = "The message was sent to the mail server, but no reply came."


@dataclass(frozen=True, slots=True)
class SubmissionDelivered(SubmissionEvent):
    type = "submission.delivered"
    when = "A delivery report says that the message reached a recipient."


@dataclass(frozen=True, slots=True)
class SubmissionBounced(SubmissionEvent):
    type = "submission.bounced"
    when = "A delivery report says that the message did not reach a recipient."


EVENTS: dict[str, type[EventData]] = {
    kind.type: kind
    for kind in (
        MessageCreated,
        MessageUpdated,
        MessageMoved,
        MessageDeleted,
        ThreadUpdated,
        MailboxCreatedEvent,
        MailboxUpdatedEvent,
        MailboxDeletedEvent,
        MailboxResetEvent,
        SyncProgress,
        AccountConnected,
        AccountDisconnected,
        AccountAuthRequired,
        AccountThrottled,
        AccountResync,
        QuotaChanged,
        SubmissionQueued,
        SubmissionSent,
        SubmissionDeferred,
        SubmissionFailed,
        SubmissionUncertain,
        SubmissionDelivered,
        SubmissionBounced,
    )
}
"""Every event by its type."""
SUBMISSION_EVENTS: dict[str, type[SubmissionEvent]] = {
    name: kind for name, kind in EVENTS.items() if issubclass(kind, SubmissionEvent)
}
PATTERNS = tuple(sorted({f"{name.partition('.')[0]}.*" for name in EVENTS}))
"""Names that a subscription may use besides the types."""
PLANNED = frozenset(
    ("draft.*", "draft.created", "draft.updated", "draft.deleted", "job.*", "job.progress", "submission.held")
)
"""Events of the API's contract that are not emitted yet: a subscription may name them."""
