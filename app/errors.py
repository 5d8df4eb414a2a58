"""The hierarchy of Postgate's errors.

GatewayError
├── InvalidRequest          the input is invalid; `errors` points at each fault
│   ├── AddressNotAllowed   a host that this installation may not connect to
│   └── NotStorable         the database refuses a value
├── NotAuthenticated        the token is missing or invalid
│   └── TokenMissing, TokenMalformed, TokenExpired, TokenRevoked
├── NotPermitted            the token lacks a scope
├── NotFound                the resource does not exist, or is not visible to the caller
├── Conflict                the current state of the resource forbids the operation
├── PreconditionFailed      If-Match, UNCHANGEDSINCE
├── StateExpired            the cursor or state is too old
├── NotSupported            not supported by this version or by the mail server
│   └── NotImplementedYet   part of the API, but not implemented
├── TooLarge
├── RangeNotSatisfiable     a byte range outside the content
├── UnsupportedMedia        a content type that the operation does not accept
├── RateLimited
├── Unavailable             Postgate cannot process the request now: retry it later
│   ├── DatabaseUnavailable the database does not respond
│   └── StorageUnavailable  the disk fails
│       └── StorageFull     the disk is full
└── MailServerError         an error of the account's mail server
    ├── Unreachable         the connection failed or was lost
    │   └── TimedOut        the server did not respond within the deadline
    ├── LoginRefused
    ├── ServerRefused       NO, 4xx or 5xx: the server refused the command
    └── ServerProtocolError BAD, or a response that violates the protocol

A class has a stable `code`, the key of its row in the table of problems (`app/problems`): title, status, replies to
mail programs, help. An instance has a `detail` and further facts as fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from app.problems import PROBLEMS, Problem


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a request: its description, and a JSON pointer into the body or the name of a parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class OriginAnswer:
    """A mail server's response. `protocol` is imap, smtp or pop3; `response` is the line without secrets."""

    protocol: str
    response: str
    enhanced_code: str | None = None


class GatewayError(Exception):
    """Base class of all errors that Postgate raises deliberately. A subclass without a `code` inherits its parent's."""

    code: ClassVar[str] = "internal_error"
    problem: ClassVar[Problem] = PROBLEMS[code]
    faults: tuple[Fault, ...] = ()
    """The faults in the request, if known."""

    def __init_subclass__(cls) -> None:
        cls.problem = PROBLEMS[cls.code]

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.problem.title)
        self.detail = detail or self.problem.title

    def pointing_at(self, pointer: str) -> Self:
        """Set the JSON pointer of the fault, and return self."""
        self.faults = (Fault(self.detail, pointer=pointer),)
        return self

    def naming(self, parameter: str) -> Self:
        """Set the query parameter of the fault, and return self."""
        self.faults = (Fault(self.detail, parameter=parameter),)
        return self

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.problem.is_retryable


class InvalidRequest(GatewayError):
    code = "invalid_request"

    def __init__(self, detail: str = "", faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail or (faults[0].detail if faults else ""))
        self.faults = tuple(faults)

    @classmethod
    def at(cls, pointer: str, detail: str) -> InvalidRequest:
        """An error for one member of the JSON body."""
        return cls(detail, (Fault(detail, pointer=pointer),))

    @classmethod
    def parameter(cls, name: str, detail: str) -> InvalidRequest:
        """An error for one query parameter, path parameter or header."""
        return cls(detail, (Fault(detail, parameter=name),))

    def in_body(self) -> InvalidRequest:
        """The same error for parameters that were members of the JSON body."""
        faults = [
            Fault(fault.detail, pointer=f"/{fault.parameter}") if fault.parameter else fault for fault in self.faults
        ]
        return InvalidRequest(self.detail, faults)


class AddressNotAllowed(InvalidRequest):
    code = "address_not_allowed"


class NotStorable(InvalidRequest):
    """The database refuses a value: a batch is then written one fact at a time."""

    def __init__(self, detail: str = "The database cannot store a value of the request") -> None:
        super().__init__(detail)


class IdempotencyMismatch(InvalidRequest):
    code = "idempotency_key_reused"


class MalformedRequest(GatewayError):
    """The request cannot be parsed: malformed JSON or an invalid frame."""

    code = "malformed_request"

    def __init__(self, detail: str = "", faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.faults = tuple(faults)


class NotAuthenticated(GatewayError):
    code = "not_authenticated"


class TokenMissing(NotAuthenticated):
    code = "token_missing"


class TokenMalformed(NotAuthenticated):
    code = "token_malformed"


class TokenExpired(NotAuthenticated):
    code = "token_expired"


class TokenRevoked(NotAuthenticated):
    code = "token_revoked"


class NotPermitted(GatewayError):
    code = "not_permitted"


class NotFound(GatewayError):
    code = "not_found"


class AccountNotFound(NotFound):
    code = "account_not_found"


class MailboxNotFound(NotFound):
    code = "mailbox_not_found"


class MessageNotFound(NotFound):
    code = "message_not_found"


class ThreadNotFound(NotFound):
    code = "thread_not_found"


class PartNotFound(NotFound):
    code = "part_not_found"


class LinkNotFound(NotFound):
    code = "link_not_found"


class LinkExpired(GatewayError):
    code = "link_expired"


class ImageNotAvailable(GatewayError):
    """A remote image cannot be returned: its server is not allowed, unreachable or slow, or sent no raster image."""

    code = "image_not_available"


class SubmissionNotFound(NotFound):
    code = "submission_not_found"


class Conflict(GatewayError):
    code = "conflict"


class AlreadyExists(Conflict):
    code = "already_exists"


class IdempotencyRunning(Conflict):
    code = "idempotency_key_running"


class PreconditionFailed(GatewayError):
    code = "precondition_failed"


class StateExpired(GatewayError):
    """`mailbox_ids` names the mailboxes that must be listed again; if it is empty, `/changes` has the difference."""

    code = "state_expired"

    def __init__(self, detail: str = "", mailbox_ids: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.mailbox_ids = tuple(mailbox_ids)


class NotSupported(GatewayError):
    code = "not_supported"


class NotImplementedYet(NotSupported):
    """An operation of the API that this version does not implement."""

    code = "not_implemented"


class TooLarge(GatewayError):
    code = "too_large"


class TooComplex(GatewayError):
    """Parsing took too much time or memory, and was stopped."""

    code = "too_complex"


class ClientLeft(GatewayError):
    """The client closed its connection before the answer, so this error is not sent."""

    code = "client_left"


class RangeNotSatisfiable(GatewayError):
    code = "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The content has {size_bytes} bytes")
        self.size_bytes = size_bytes


class UnsupportedMedia(GatewayError):
    code = "unsupported_media_type"


class RateLimited(GatewayError):
    code = "rate_limited"

    def __init__(self, detail: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(GatewayError):
    """Postgate cannot process the request now. Nothing is lost; the same request may succeed later."""

    code = "unavailable"


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class StorageFull(StorageUnavailable):
    code = "storage_full"


class SearchIncomplete(Unavailable):
    """The full-text index is incomplete, and the missing messages could not be read in time."""

    code = "search_incomplete"


class SyncPending(Unavailable):
    """The index has no data of a list yet, and the mail server did not return it in time."""

    code = "sync_pending"


class MailServerError(GatewayError):
    code = "mail_server_error"

    def __init__(self, detail: str = "", origin: OriginAnswer | None = None) -> None:
        super().__init__(detail)
        self.origin = origin


class Throttled(RateLimited, MailServerError):
    """The mail server throttles an account: connections, commands or bytes."""

    code = "mail_server_throttled"

    def __init__(self, detail: str = "", origin: OriginAnswer | None = None, retry_after_seconds: float = 30.0) -> None:
        super().__init__(detail, retry_after_seconds)
        self.origin = origin


class Unreachable(MailServerError):
    code = "mail_server_unreachable"


class CertificateRefused(Unreachable):
    code = "mail_server_certificate"


class TimedOut(Unreachable):
    code = "mail_server_timeout"


class LoginRefused(MailServerError):
    code = "mail_login_refused"


class ServerRefused(MailServerError):
    code = "mail_server_refused"


class ServerProtocolError(MailServerError):
    code = "mail_server_protocol_error"
