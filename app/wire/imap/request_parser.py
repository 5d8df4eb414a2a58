"""Parsing of framed commands into their types, by the readers of `requests` (RFC 9051 §6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from app.wire.imap import requests
from app.wire.imap.arguments import ArgumentReader, CommandSyntaxError, UnsupportedCharset
from app.wire.imap.framing import Part
from app.wire.imap.request import BareCommand, Command, Readers, Request

_TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]{1,100}(?= |\Z)")


def _collect() -> Readers:
    """The readers of all modules in `requests`. Raises ImportError if two modules read the same command."""
    collected: Readers = {}
    for module in iter_modules(requests.__path__, f"{requests.__name__}."):
        readers: Readers = import_module(module.name).READERS
        if repeated := collected.keys() & readers.keys():
            raise ImportError(f"{module.name} reads {sorted(repeated)}, which another module reads too")
        collected = {**collected, **readers}
    return collected


READERS = _collect()


def parse_command(parts: Sequence[Part], *, is_utf8: bool = False) -> Request:
    """Parse `ReceivedCommand.parts`. `is_utf8` means that UTF8=ACCEPT or IMAP4rev2 is enabled.

    Raises CommandSyntaxError (answer it with BAD) or UnsupportedCharset, each with the tag.
    """
    reader = ArgumentReader(parts, is_utf8=is_utf8)
    tag = reader.match(_TAG, "A tag")[0].decode("ascii")
    try:
        reader.space()
        command = _read_command(reader)
        reader.end()
    except (CommandSyntaxError, UnsupportedCharset) as error:
        error.tag = tag
        raise
    return Request(tag, command)


def append_target(parts: Sequence[Part], *, is_utf8: bool = False) -> str:
    """The mailbox of an APPEND before its first message arrives, so that the server can refuse it in time.

    Raises CommandSyntaxError, with the tag, for any other command.
    """
    reader = ArgumentReader(parts, is_utf8=is_utf8)
    tag = reader.match(_TAG, "A tag")[0].decode("ascii")
    try:
        reader.space()
        if reader.word() != "APPEND":
            reader.fail("An APPEND expected")
        reader.space()
        return reader.mailbox()
    except CommandSyntaxError as error:
        error.tag = tag
        raise


def _read_command(reader: ArgumentReader) -> Command:
    name = reader.word()
    if name == "UID":
        reader.space()
        name = f"UID {reader.word()}"
    reader_of_name = READERS.get(name)
    if reader_of_name is None:
        reader.fail("Unknown command")
    if isinstance(reader_of_name, BareCommand):
        return reader_of_name
    reader.space()
    return reader_of_name(reader)
