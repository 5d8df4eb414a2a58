"""The type of a row in the table of problems."""

from __future__ import annotations

from dataclasses import dataclass

SmtpReply = tuple[int, str, str]
"""Status code, enhanced status code (RFC 3463) and text."""

_IMAP = {
    401: "AUTHENTICATIONFAILED",
    403: "NOPERM",
    404: "NONEXISTENT",
    409: "CANNOT",
    413: "TOOBIG",
    422: "CANNOT",
    429: "LIMIT",
    501: "CANNOT",
    503: "UNAVAILABLE",
    507: "OVERQUOTA",
}
_SMTP: dict[int, SmtpReply] = {
    401: (535, "5.7.8", "Authentication failed"),
    403: (550, "5.7.1", "Not permitted"),
    404: (550, "5.1.1", "No such user here"),
    413: (552, "5.3.4", "Message too large"),
    429: (451, "4.7.0", "Too many requests; try again later"),
    507: (452, "4.3.1", "Insufficient storage"),
}
_SMTP_TEMPORARY: SmtpReply = (451, "4.3.0", "Temporarily unavailable; try again later")
_SMTP_PERMANENT: SmtpReply = (554, "5.6.0", "The message was refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A kind of problem, with its texts, its HTTP status and its replies to mail programs.

    `when`, `why` and `what_to_do` are the text of its page. `fix` is in the response: one sentence for the caller, None
    if the caller can do nothing. `imap_code` (RFC 5530) and `smtp_reply` are for mail programs; their defaults depend
    on the status.
    """

    code: str
    title: str
    status: int
    when: str
    why: str
    what_to_do: str
    fix: str | None = None
    is_retryable: bool = False
    imap_code: str | None = None
    smtp_reply: SmtpReply | None = None

    @property
    def imap(self) -> str:
        """Return the response code of an IMAP server's NO (RFC 5530)."""
        return self.imap_code or _IMAP.get(self.status, "SERVERBUG")

    @property
    def smtp(self) -> SmtpReply:
        """Return the reply of an SMTP server."""
        is_permanent = 400 <= self.status < 500
        return self.smtp_reply or _SMTP.get(self.status, _SMTP_PERMANENT if is_permanent else _SMTP_TEMPORARY)
