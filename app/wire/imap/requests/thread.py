"""THREAD and UID THREAD (RFC 5256)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, Readers
from app.wire.imap.requests.search import read_charset, read_keys
from app.wire.imap.search import SearchKey


class ThreadAlgorithm(StrEnum):
    ORDERED_SUBJECT = "ORDEREDSUBJECT"
    REFERENCES = "REFERENCES"


_ALGORITHMS = frozenset(ThreadAlgorithm)


@dataclass(frozen=True, slots=True)
class ThreadMessages(Command):
    """THREAD or UID THREAD."""

    algorithm: ThreadAlgorithm
    key: SearchKey
    is_uid: bool = False


def _thread(reader: ArgumentReader, *, is_uid: bool = False) -> ThreadMessages:
    word = reader.word()
    if word not in _ALGORITHMS:
        reader.fail("Unknown thread algorithm")
    reader.space()
    read_charset(reader)
    reader.space()
    return ThreadMessages(ThreadAlgorithm(word), read_keys(reader), is_uid)


READERS: Readers = {"THREAD": _thread, "UID THREAD": partial(_thread, is_uid=True)}
