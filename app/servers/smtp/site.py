"""What all SMTP conversations of a server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from app.servers.smtp.recipient_probes import RecipientProbes
from app.servers.smtp.unconfirmed import Unconfirmed
from app.services.access.logins import Logins
from app.services.sending.deliveries import Deliveries

RECIPIENTS_LIMIT = 100
"""Of one message (RFC 5321 §4.5.3.1.8 asks for as many)."""


class ListenerRole(Enum):
    """Who a server is for, and so what it takes."""

    SUBMISSION = "submission"
    """Our own users, logged in, to anyone (RFC 6409)."""
    MX = "mx"
    """Anyone, to our own users (RFC 5321)."""
    LMTP = "lmtp"
    """The same with a reply for each recipient (RFC 2033)."""


@dataclass(frozen=True, slots=True)
class SmtpSite:
    role: ListenerRole
    hostname: str
    deliveries: Deliveries
    logins: Logins
    max_message_bytes: int
    guesses: RecipientProbes = field(default_factory=RecipientProbes)
    unconfirmed: Unconfirmed = field(default_factory=Unconfirmed)
