"""Maps -ERR of POP3 servers to errors, by response code or by known texts."""

from __future__ import annotations

import re

from app.errors import GatewayError, OriginAnswer, RateLimited, ServerRefused, Unreachable
from app.wire.pop3_client import Pop3Status

IN_USE_SECONDS = 15.0
LOGIN_DELAY_SECONDS = 120.0
"""Wait after LOGIN-DELAY, because servers do not state the remaining time."""

_LOCKED = re.compile(r"lock|in use|busy", re.IGNORECASE)
"""qpopper and UW ipop3d say "maildrop already locked" without a code."""
_TEMPORARY = re.compile(r"temporar|try again|later|unavailable|internal error", re.IGNORECASE)


class MaildropLocked(RateLimited):
    """The login was accepted, but another session has the maildrop lock (RFC 2449 §8.1.2)."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("Another mail program is reading this mailbox", retry_after_seconds)


def error_of(status: Pop3Status) -> GatewayError:
    """The error for -ERR, by its response code (RFC 2449 §8.1, RFC 3206 §4), else by the texts of known servers."""
    code = status.code
    if code == "LOGIN-DELAY":
        return RateLimited("The mail server does not allow a login yet", LOGIN_DELAY_SECONDS)
    if code == "IN-USE" or (code is None and _LOCKED.search(status.text)):
        return MaildropLocked(retry_after_seconds=IN_USE_SECONDS)
    if code == "SYS/TEMP" or (code is None and _TEMPORARY.search(status.text)):
        return Unreachable("The mail server cannot open this mailbox at the moment", origin_of(status))
    return ServerRefused(origin=origin_of(status))


def origin_of(status: Pop3Status) -> OriginAnswer:
    return OriginAnswer("pop3", f"{'+OK' if status.is_ok else '-ERR'} {status.text}".strip())
