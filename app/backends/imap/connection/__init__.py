"""One IMAP connection, on aioimaplib, which nothing outside this package imports.

`opening` connects and logs in; `protocol` receives and sends, over a `wire` that may be plain, in TLS or compressed.
`exchange` is a command in progress, `waiting` the commands that have not ended, `answers` their results, and `lines`
parses lines about the connection itself.
"""

from app.backends.endpoint import Endpoint
from app.backends.imap.connection.answers import CommandCompletion, LiteralStream
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
    "CommandCompletion",
    "Endpoint",
    "Exchange",
    "ImapProtocol",
    "LiteralStream",
    "Take",
    "kept_bytes",
    "open_connection",
    "take_all",
]
