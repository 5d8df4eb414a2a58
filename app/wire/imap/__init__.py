"""IMAP on the wire, without I/O: one grammar for our client and our server."""
