"""Where a connection to a mail server goes, and what it is in our terms when it does not come about."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from app.errors import CertificateRefused, MailServerError, TimedOut, Unreachable
from app.mail.masking import Masker
from app.mail.protocol_log import Recorder
from app.mail.types import TransportSecurity

CONNECT_TIMEOUT_SECONDS = 10.0
"""For one address, its TLS handshake included."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A mail server to connect to: `host` is what its certificate must name, `addresses` were checked beforehand."""

    host: str
    addresses: tuple[str, ...]
    port: int
    security: TransportSecurity
    tls: ssl.SSLContext = field(repr=False)
    recorder: Recorder | None = None
    """Receives the protocol lines, if somebody records them."""
    masker: Masker = field(default_factory=Masker, repr=False)
    """Of what a server must not be able to repeat to others."""


def connect_error(failure: Exception) -> MailServerError:
    """What a failure to connect is in our terms."""
    if isinstance(failure, MailServerError):
        return failure
    if isinstance(failure, ssl.SSLCertVerificationError):
        return CertificateRefused(f"The mail server's certificate is not valid: {failure.verify_message}")
    if isinstance(failure, ssl.SSLError):
        return Unreachable("The mail server does not speak TLS on this port")
    if isinstance(failure, TimeoutError):
        return TimedOut("The mail server did not answer in time")
    return Unreachable("The mail server refused the connection")
