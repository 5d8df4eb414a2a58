"""One IMAP connection, on aioimaplib, which nothing outside this package imports.

`opening` connects and logs in, `protocol` moves bytes, `exchange` is a command on its way, `answers` what comes back.
"""

from app.backends.imap.connection.answers import Completion, LiteralStream
from app.backends.imap.connection.exchange import Exchange
from app.backends.imap.connection.opening import Endpoint, close_connection, open_connection
from app.backends.imap.connection.protocol import ImapProtocol

__all__ = ["Completion", "Endpoint", "Exchange", "ImapProtocol", "LiteralStream", "close_connection", "open_connection"]
