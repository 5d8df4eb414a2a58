"""ENABLE (RFC 5161)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, Readers


@dataclass(frozen=True, slots=True)
class Enable(Command):
    """ENABLE (RFC 5161). Names are in upper case."""

    capabilities: tuple[str, ...]


def _enable(reader: ArgumentReader) -> Enable:
    names = [reader.word()]
    while reader.skip(b" "):
        names.append(reader.word())
    return Enable(tuple(names))


READERS: Readers = {"ENABLE": _enable}
