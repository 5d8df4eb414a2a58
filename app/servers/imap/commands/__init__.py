"""The commands of the IMAP server: a module does some commands and declares them in `HANDLERS`.

`registry` collects `HANDLERS` of every module in this package. The types of the commands and their readers are in the
module of the same name in `wire/imap/requests`.
"""
