"""The embedded IMAP server (RFC 3501 and extensions): one conversation per client, one file per family of commands."""
