"""The commands that the server reads (RFC 9051 §6).

A module holds the types of some commands, and how their arguments are read in `READERS`, which `request_parser`
collects. The module of the same name in `servers/imap/commands` does these commands.
"""
