"""COPY and MOVE (RFC 9051 §6.4.7, §6.4.8; RFC 6851)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, MessageSet, Readers, read_messages


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """COPY or UID COPY; with `is_move`, MOVE or UID MOVE (RFC 6851)."""

    messages: MessageSet
    mailbox: str
    is_uid: bool = False
    is_move: bool = False


def _copy(reader: ArgumentReader, *, is_uid: bool = False, is_move: bool = False) -> Copy:
    messages = read_messages(reader)
    reader.space()
    return Copy(messages, reader.mailbox(), is_uid, is_move)


READERS: Readers = {
    "COPY": _copy,
    "UID COPY": partial(_copy, is_uid=True),
    "MOVE": partial(_copy, is_move=True),
    "UID MOVE": partial(_copy, is_uid=True, is_move=True),
}
