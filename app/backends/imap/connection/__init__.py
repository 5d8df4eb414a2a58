"""One IMAP connection, on aioimaplib, which nothing outside this package imports.

`opening` connects and logs in; `protocol` receives and sends, over a `wire` that may be plain, in TLS or compressed.
`exchange` is a command on its way, `waiting` those that have not ended, `answers` what comes back, `lines` what a
server says to the connection itself.
"""

from app.backends.endpoint import Endpoint
from app.backends.imap.connection.answers import Completion, LiteralStream
from app.backends.imap.connection.exchange import (
    COMMAND_TIMEOUT_SECONDS,
    MAX_KEPT_BYTES,
    Exchange,
    Take,
    kept_bytes,
    take_all,
)
from app.backends.imap.connection.opening import open_connection
from app.backends.imap.connection.protocol import ImapProtocol

__all__ = [
    "COMMAND_TIMEOUT_SECONDS",
    "MAX_KEPT_BYTES",
    "Completion",
    "Endpoint",
    "Exchange",
    "ImapProtocol",
    "LiteralStream",
    "Take",
    "kept_bytes",
    "open_connection",
    "take_all",
]
