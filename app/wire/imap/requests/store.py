"""STORE and UID STORE (RFC 9051 §6.4.6, RFC 7162)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, MessageSet, Readers, read_messages

_FLAGS_ITEM = re.compile(rb"([+-]?)FLAGS(\.SILENT)?(?= )", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Store(Command):
    """STORE or UID STORE. `mode` is "+", "-", or "" to replace. `unchanged_since`: RFC 7162."""

    messages: MessageSet
    mode: str
    flags: tuple[str, ...]
    is_silent: bool = False
    is_uid: bool = False
    unchanged_since: int | None = None


def _store(reader: ArgumentReader, *, is_uid: bool = False) -> Store:
    messages = read_messages(reader)
    reader.space()
    unchanged_since = None
    if reader.skip(b"("):
        if reader.word() != "UNCHANGEDSINCE":
            reader.fail("Unknown modifier")
        reader.space()
        unchanged_since = reader.number()
        reader.expect(b")")
        reader.space()
    item = reader.match(_FLAGS_ITEM, "FLAGS, +FLAGS or -FLAGS")
    reader.space()
    return Store(messages, item[1].decode("ascii"), _stored_flags(reader), item[2] is not None, is_uid, unchanged_since)


def _stored_flags(reader: ArgumentReader) -> tuple[str, ...]:
    """Flags, with or without parentheses."""
    if reader.next_is(b"("):
        return tuple(reader.items_or_empty(reader.flag))
    flags = [reader.flag()]
    while reader.skip(b" "):
        flags.append(reader.flag())
    return tuple(flags)


READERS: Readers = {"STORE": _store, "UID STORE": partial(_store, is_uid=True)}
