"""The embedded IMAP server (RFC 3501 and extensions): one conversation a client, one file a family of commands."""
