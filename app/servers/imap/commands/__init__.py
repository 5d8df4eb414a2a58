"""The commands of the IMAP server: each module implements some commands and declares them in `HANDLERS`.

`registry` collects the `HANDLERS` of every module in this package. The types and parsers of the commands are in the
module with the same name in `wire/imap/requests`.
"""
