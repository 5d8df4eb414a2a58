"""The endpoint of a connection to a mail server, and the errors of failed connects."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from app.errors import CertificateRefused, MailServerError, TimedOut, Unreachable
from app.mail.masking import Masker
from app.mail.protocol_log import Recorder
from app.mail.types import TransportSecurity

CONNECT_TIMEOUT_SECONDS = 10.0
"""Per address, including the TLS handshake."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A mail server to connect to. Its certificate must be valid for `host`; the caller has checked `addresses`."""

    host: str
    addresses: tuple[str, ...]
    port: int
    security: TransportSecurity
    tls: ssl.SSLContext = field(repr=False)
    recorder: Recorder | None = None
    """Records the protocol lines, if set."""
    masker: Masker = field(default_factory=Masker, repr=False)
    """Masks secrets in server responses."""


def connect_error(failure: Exception) -> MailServerError:
    """The MailServerError for a failed connect."""
    if isinstance(failure, MailServerError):
        return failure
    if isinstance(failure, ssl.SSLCertVerificationError):
        return CertificateRefused(f"The mail server's certificate is not valid: {failure.verify_message}")
    if isinstance(failure, ssl.SSLError):
        return Unreachable("The mail server does not speak TLS on this port")
    if isinstance(failure, TimeoutError):
        return TimedOut("The mail server did not answer in time")
    return Unreachable("The mail server refused the connection")
