"""IMAP syntax without I/O, shared by the client and the server."""
