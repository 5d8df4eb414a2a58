"""One IMAP connection, on aioimaplib, which nothing outside this package imports.

`opening` connects and logs in, `protocol` moves bytes, `exchange` is a command on its way, `answers` what comes back.
"""

from app.backends.imap.connection.answers import Completion, LiteralStream
from app.backends.imap.connection.exchange import Exchange
from app.backends.imap.connection.opening import Endpoint, open_connection
from app.backends.imap.connection.protocol import ImapProtocol

__all__ = ["Completion", "Endpoint", "Exchange", "ImapProtocol", "LiteralStream", "open_connection"]
