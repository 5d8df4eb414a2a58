"""SMTP and LMTP replies with their enhanced status codes (RFC 3463)."""

from __future__ import annotations

from app.errors import GatewayError
from app.wire.smtp import reply

OK = reply(250, "2.0.0", "Ok")
NO_USER = reply(550, "5.1.1", "No such user here")
NO_RELAY = reply(550, "5.7.1", "Relaying denied")
NO_ROUTE = reply(550, "5.4.4", "Cannot send to other domains: no smarthost is configured")
FULL = reply(452, "4.5.3", "Too many recipients")
TOO_LARGE = reply(552, "5.3.4", "Message too large")
BARE_LINE_END = reply(554, "5.6.0", "Bare CR or LF in message; lines must end with CRLF")
LOOP = reply(554, "5.4.6", "Mail loop detected")
NO_LOGIN_NOW = reply(454, "4.7.0", "Temporarily unavailable; try again later")
BAD_SEQUENCE = reply(503, "5.5.1", "Bad sequence of commands")
UNKNOWN = reply(500, "5.5.1", "Command not recognized")
SYNTAX = reply(501, "5.5.4", "Syntax error in parameters")
BAD_PARAMETER = reply(555, "5.5.4", "Parameter not recognized")
LOGIN_FIRST = reply(530, "5.7.0", "Authentication required")
NOT_YOURS = reply(553, "5.7.1", "The sender is not one of your addresses")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "Address requires SMTPUTF8")
NO_RECIPIENTS = reply(554, "5.5.1", "No valid recipients")
TOO_MANY = reply(421, "4.7.0", "Too many errors or commands")
TOO_MANY_UNKNOWN = reply(450, "4.7.1", "Too many unknown recipients from this address; try again later")


def reply_to(error: GatewayError) -> bytes:
    """Return the reply to a command that failed with this error."""
    return reply(*error.problem.smtp)
