"""The commands of the server (RFC 9051 §6).

A module has the types of some commands and, in `READERS`, the readers of their arguments, which `request_parser`
collects. The module of the same name in `servers/imap/commands` executes these commands.
"""
