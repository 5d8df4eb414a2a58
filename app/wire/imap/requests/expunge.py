"""EXPUNGE and UID EXPUNGE (RFC 9051 §6.4.3, §6.4.9; RFC 4315)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.request import BareCommand, Command, MessageSet, Readers, read_messages


@dataclass(frozen=True, slots=True)
class Expunge(BareCommand):
    """EXPUNGE."""


@dataclass(frozen=True, slots=True)
class UidExpunge(Command):
    """UID EXPUNGE (RFC 4315)."""

    uids: MessageSet


READERS: Readers = {"EXPUNGE": Expunge(), "UID EXPUNGE": lambda reader: UidExpunge(read_messages(reader))}
