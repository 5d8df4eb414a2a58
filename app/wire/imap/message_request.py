"""APPEND, FETCH, STORE, COPY and MOVE as the server reads them (RFC 9051 §6.3.12, §6.4; RFC 7162, RFC 6851)."""

from __future__ import annotations

import re

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.fetch_request import read_items
from app.wire.imap.requests import Append, AppendedMessage, Copy, Fetch, MessageSet, Store
from app.wire.imap.search import SavedResult

MAX_APPENDED = 1_000

_FLAGS_ITEM = re.compile(rb"([+-]?)FLAGS(\.SILENT)?(?= )", re.IGNORECASE)


def read_append(reader: ArgumentReader) -> Append:
    mailbox = reader.mailbox()
    messages: list[AppendedMessage] = []
    while not reader.is_at_end():
        if len(messages) == MAX_APPENDED:
            reader.fail("Too many messages")
        reader.space()
        messages.append(_appended(reader))
    if not messages:
        reader.fail("A message expected")
    return Append(mailbox, tuple(messages))


def _appended(reader: ArgumentReader) -> AppendedMessage:
    flags: tuple[str, ...] = ()
    received_at_ms = None
    if reader.next_is(b"("):
        flags = tuple(reader.items_or_empty(reader.flag))
        reader.space()
    if reader.next_is(b'"'):
        received_at_ms = reader.date_time_ms()
        reader.space()
    is_utf8 = reader.skip_word("UTF8")
    if is_utf8:
        reader.expect(b" (")
    message = reader.literal()
    if is_utf8:
        reader.expect(b")")
    return AppendedMessage(message, flags, received_at_ms, is_utf8)


def read_messages(reader: ArgumentReader) -> MessageSet:
    return SavedResult() if reader.skip(b"$") else reader.sequence_set()


def read_fetch(reader: ArgumentReader, *, is_uid: bool = False) -> Fetch:
    messages = read_messages(reader)
    reader.space()
    items = read_items(reader)
    changed_since, vanished = None, False
    if reader.skip(b" "):
        for since in reader.items(lambda: _fetch_modifier(reader)):
            changed_since, vanished = (changed_since, True) if since is None else (since, vanished)
    if vanished and (changed_since is None or not is_uid):
        reader.fail("VANISHED needs CHANGEDSINCE and UID FETCH")
    if is_uid and "UID" not in items:
        items = ("UID", *items)
    if changed_since is not None and "MODSEQ" not in items:
        items = (*items, "MODSEQ")
    return Fetch(messages, items, is_uid, changed_since, vanished)


def _fetch_modifier(reader: ArgumentReader) -> int | None:
    """The number of CHANGEDSINCE, None for VANISHED."""
    name = reader.word()
    if name == "CHANGEDSINCE":
        reader.space()
        return reader.number()
    if name != "VANISHED":
        reader.fail("An unknown modifier")
    return None


def read_store(reader: ArgumentReader, *, is_uid: bool = False) -> Store:
    messages = read_messages(reader)
    reader.space()
    unchanged_since = None
    if reader.skip(b"("):
        if reader.word() != "UNCHANGEDSINCE":
            reader.fail("An unknown modifier")
        reader.space()
        unchanged_since = reader.number()
        reader.expect(b")")
        reader.space()
    item = reader.match(_FLAGS_ITEM, "FLAGS, +FLAGS or -FLAGS")
    reader.space()
    return Store(messages, item[1].decode("ascii"), _stored_flags(reader), item[2] is not None, is_uid, unchanged_since)


def _stored_flags(reader: ArgumentReader) -> tuple[str, ...]:
    """Flags in parentheses, or bare."""
    if reader.next_is(b"("):
        return tuple(reader.items_or_empty(reader.flag))
    flags = [reader.flag()]
    while reader.skip(b" "):
        flags.append(reader.flag())
    return tuple(flags)


def read_copy(reader: ArgumentReader, *, is_uid: bool, is_move: bool) -> Copy:
    messages = read_messages(reader)
    reader.space()
    return Copy(messages, reader.mailbox(), is_uid, is_move)
