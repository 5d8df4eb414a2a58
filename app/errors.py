"""The error tree: what can go wrong, named once.

GatewayError
├── InvalidRequest          the caller's input is wrong; `errors` points at each fault
│   ├── AddressNotAllowed   a host that this install may not connect to
│   └── NotStorable         the database refuses a value
├── NotAuthenticated        no token, or not a valid one
│   └── TokenMissing, TokenMalformed, TokenExpired, TokenRevoked
├── NotPermitted            a valid token without the right
├── NotFound                no such thing, or none that the caller may see
├── Conflict                the thing's present state forbids it
├── PreconditionFailed      If-Match, UNCHANGEDSINCE
├── StateExpired            a cursor or state that cannot be answered any more
├── NotSupported            not offered by this version or by the origin
├── TooLarge
├── RangeNotSatisfiable     a byte range outside the content
├── UnsupportedMedia        a content type that is not taken here
├── RateLimited
├── Unavailable             Postgate cannot do its work now: retry the same request later
│   ├── DatabaseUnavailable the database does not answer
│   └── StorageUnavailable  the disk fails
│       └── StorageFull     the disk is full
└── MailServerError         the origin's fault
    ├── Unreachable         no connection, or it was lost
    │   └── TimedOut        it did not answer within the deadline
    ├── LoginRefused
    ├── ServerRefused       NO, 4xx or 5xx: it understood and declined
    └── ServerProtocolError BAD, or an answer that breaks the protocol

An error holds a stable `code`, whether a retry may help, and facts as fields; never an HTTP status. Its faces are
tables elsewhere: `api/problems.py`, `servers/imap/`, `servers/smtp.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a request: a JSON pointer into its body or the name of a parameter, and what is wrong."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class OriginAnswer:
    """What a mail server said: `protocol` is imap, smtp or pop3; `response` its line without secrets."""

    protocol: str
    response: str
    enhanced_code: str | None = None


class GatewayError(Exception):
    """Root of all errors that Postgate raises on purpose."""

    code = "internal_error"
    title = "Something went wrong"
    is_retryable = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title


class InvalidRequest(GatewayError):
    code = "invalid_request"
    title = "The request is not valid"

    def __init__(self, detail: str = "", faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail or (faults[0].detail if faults else ""))
        self.faults = tuple(faults)

    @classmethod
    def at(cls, pointer: str, detail: str) -> InvalidRequest:
        """An error about one place of the JSON body."""
        return cls(detail, (Fault(detail, pointer=pointer),))

    @classmethod
    def parameter(cls, name: str, detail: str) -> InvalidRequest:
        """An error about one query parameter, path parameter or header."""
        return cls(detail, (Fault(detail, parameter=name),))

    def in_body(self) -> InvalidRequest:
        """The same where the parameters were members of the JSON body."""
        faults = [Fault(one.detail, pointer=f"/{one.parameter}") if one.parameter else one for one in self.faults]
        return InvalidRequest(self.detail, faults)


class AddressNotAllowed(InvalidRequest):
    code = "address_not_allowed"
    title = "This host may not be connected to"


class NotStorable(InvalidRequest):
    """The database refuses a value: a batch is then written one fact at a time."""

    title = "The database cannot hold a value of the request"


class IdempotencyMismatch(InvalidRequest):
    code = "idempotency_key_reused"
    title = "This idempotency key was used with another payload"


class MalformedRequest(GatewayError):
    """The request cannot even be read: broken JSON, a frame that is not one."""

    code = "malformed_request"
    title = "The request cannot be read"

    def __init__(self, detail: str = "", faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.faults = tuple(faults)


class NotAuthenticated(GatewayError):
    code = "not_authenticated"
    title = "A valid token is needed"


class TokenMissing(NotAuthenticated):
    code = "token_missing"
    title = "The request has no bearer token"


class TokenMalformed(NotAuthenticated):
    code = "token_malformed"
    title = "The bearer token is not one that Postgate issues"


class TokenExpired(NotAuthenticated):
    code = "token_expired"
    title = "The token has expired"


class TokenRevoked(NotAuthenticated):
    code = "token_revoked"
    title = "The token was revoked, or never existed"


class NotPermitted(GatewayError):
    code = "not_permitted"
    title = "The token does not allow this"


class NotFound(GatewayError):
    code = "not_found"
    title = "There is no such thing, or none that this token may see"


class AccountNotFound(NotFound):
    code = "account_not_found"
    title = "No such account"


class MailboxNotFound(NotFound):
    code = "mailbox_not_found"
    title = "No such mailbox"


class MessageNotFound(NotFound):
    code = "message_not_found"
    title = "No such message"


class ThreadNotFound(NotFound):
    code = "thread_not_found"
    title = "No such thread"


class PartNotFound(NotFound):
    code = "part_not_found"
    title = "The message has no such part"


class SubmissionNotFound(NotFound):
    code = "submission_not_found"
    title = "No such submission"


class Conflict(GatewayError):
    code = "conflict"
    title = "The present state forbids this"


class AlreadyExists(Conflict):
    code = "already_exists"
    title = "There is one already"


class IdempotencyRunning(Conflict):
    code = "idempotency_key_running"
    title = "A request with this idempotency key is still running"
    is_retryable = True


class PreconditionFailed(GatewayError):
    code = "precondition_failed"
    title = "It has changed since"


class StateExpired(GatewayError):
    """`mailbox_ids` names the mailboxes that must be read anew; empty: events are gone; `/changes` makes up."""

    code = "state_expired"
    title = "This state can no longer be answered"

    def __init__(self, detail: str = "", mailbox_ids: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.mailbox_ids = tuple(mailbox_ids)


class NotSupported(GatewayError):
    code = "not_supported"
    title = "This is not supported"


class TooLarge(GatewayError):
    code = "too_large"
    title = "This is too large"


class TooComplex(GatewayError):
    """Parsing took too much time or memory, and was stopped."""

    code = "too_complex"
    title = "The content is too complex to be parsed"


class ClientLeft(GatewayError):
    """The client closed its connection before it had an answer; nobody reads this error."""

    code = "client_left"
    title = "The client closed the connection"


class RangeNotSatisfiable(GatewayError):
    code = "range_not_satisfiable"
    title = "The byte range lies outside the content"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The content has {size_bytes} bytes")
        self.size_bytes = size_bytes


class UnsupportedMedia(GatewayError):
    code = "unsupported_media_type"
    title = "This content type is not taken here"


class RateLimited(GatewayError):
    code = "rate_limited"
    title = "Too many requests"
    is_retryable = True

    def __init__(self, detail: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(GatewayError):
    """Postgate cannot do its work now. Nothing was lost; the same request may succeed later."""

    code = "unavailable"
    title = "The service is unavailable"
    is_retryable = True


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    title = "The database is unavailable"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"
    title = "The storage is unavailable"


class StorageFull(StorageUnavailable):
    code = "storage_full"
    title = "The storage is full"


class SearchIncomplete(Unavailable):
    """The full-text index is still being filled, and what it lacks could not be read in time."""

    code = "search_incomplete"
    title = "Not every message could be searched yet"


class MailServerError(GatewayError):
    code = "mail_server_error"
    title = "The mail server failed"

    def __init__(self, detail: str = "", origin: OriginAnswer | None = None) -> None:
        super().__init__(detail)
        self.origin = origin


class Throttled(RateLimited, MailServerError):
    """It has had enough of an account for now: connections, commands or bytes."""

    code = "mail_server_throttled"
    title = "The mail server asks for less"

    def __init__(self, detail: str = "", origin: OriginAnswer | None = None, retry_after_seconds: float = 30.0) -> None:
        super().__init__(detail, retry_after_seconds)
        self.origin = origin


class Unreachable(MailServerError):
    code = "mail_server_unreachable"
    title = "The mail server cannot be reached"
    is_retryable = True


class CertificateRefused(Unreachable):
    code = "mail_server_certificate"
    title = "The mail server's certificate is not valid"
    is_retryable = False


class TimedOut(Unreachable):
    code = "mail_server_timeout"
    title = "The mail server did not answer in time"


class LoginRefused(MailServerError):
    code = "mail_login_refused"
    title = "The mail server refused the login"


class ServerRefused(MailServerError):
    code = "mail_server_refused"
    title = "The mail server refused"


class ServerProtocolError(MailServerError):
    code = "mail_server_protocol_error"
    title = "The mail server broke the protocol"
