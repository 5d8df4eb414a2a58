"""The settings and services that all SMTP conversations of a listener share."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from app.servers.smtp.recipient_probes import RecipientProbes
from app.servers.smtp.unconfirmed import Unconfirmed
from app.services.access.logins import Logins
from app.services.sending.deliveries import Deliveries

RECIPIENTS_LIMIT = 100
"""Recipients of one message (RFC 5321 §4.5.3.1.8 requires at least this number)."""


class ListenerRole(Enum):
    """What a listener is for, which determines the mail that it accepts."""

    SUBMISSION = "submission"
    """Mail from authenticated users to anyone (RFC 6409)."""
    MX = "mx"
    """Mail from anyone to local users (RFC 5321)."""
    LMTP = "lmtp"
    """As MX, with a reply for each recipient (RFC 2033)."""


@dataclass(frozen=True, slots=True)
class SmtpSite:
    role: ListenerRole
    hostname: str
    deliveries: Deliveries
    logins: Logins
    max_message_bytes: int
    guesses: RecipientProbes = field(default_factory=RecipientProbes)
    unconfirmed: Unconfirmed = field(default_factory=Unconfirmed)
