"""APPEND (RFC 9051 §6.3.12, RFC 3502)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.framing import Part
from app.wire.imap.request import Command, Readers

MAX_APPENDED = 1_000


@dataclass(frozen=True, slots=True)
class AppendedMessage:
    """A message of an APPEND: its bytes, or a reference to streamed bytes."""

    message: Part
    flags: tuple[str, ...] = ()
    received_at_ms: int | None = None
    utf8_headers: bool = False


@dataclass(frozen=True, slots=True)
class Append(Command):
    """APPEND, possibly of several messages (MULTIAPPEND, RFC 3502)."""

    mailbox: str
    messages: tuple[AppendedMessage, ...]


def _append(reader: ArgumentReader) -> Append:
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


READERS: Readers = {"APPEND": _append}
