"""The base types of parsed client commands, and what their readers share.

Each module of `requests` has the types of some commands and, in `READERS`, the readers of their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.search import SavedResult
from app.wire.imap.sets import SequenceSet

MessageSet = SequenceSet | SavedResult
"""The messages of a command: a set, or `$` (RFC 5182)."""


class Command:
    """Base class of every command's type."""

    __slots__ = ()


class BareCommand(Command):
    """A command without arguments."""

    __slots__ = ()


class NumberedCommand(Protocol):
    """A command on messages by sequence number, or by UID if `is_uid`."""

    @property
    def is_uid(self) -> bool: ...


Readers = Mapping[str, Callable[[ArgumentReader], Command] | BareCommand]
"""Commands by name in upper case, such as `NOOP` or `UID FETCH`.

A reader starts at the first argument, after the space. It raises CommandSyntaxError or UnsupportedCharset.
"""


@dataclass(frozen=True, slots=True)
class Request:
    tag: str
    command: Command


def read_messages(reader: ArgumentReader) -> MessageSet:
    """A sequence set or `$`. Raises CommandSyntaxError."""
    return SavedResult() if reader.skip(b"$") else reader.sequence_set()
