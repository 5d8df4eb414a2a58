"""Response codes in brackets (RFC 9051 §7.1; RFC 4315, 5465, 5530, 7162)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import ServerProtocolError
from app.wire.imap.grammar import list_of, parse
from app.wire.imap.sets import SequenceSet, ordered_numbers

MAX_COPIED = 1_000_000

_CODE = re.compile(r"\[([^\]\x00-\x20]+)(?: (\([^()]*\)(?=\])|[^\]]*))?\] ?(.*)", re.DOTALL)
"""A list in parentheses may contain "]": Gmail's keywords do, against the RFC."""


@dataclass(frozen=True, slots=True)
class AppendedUid:
    """APPENDUID: the UID of an appended message; several UIDs after MULTIAPPEND."""

    uid_validity: int
    uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CopiedUids:
    """COPYUID: pairs of the UIDs of the source message and its copy."""

    uid_validity: int
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """A response code: `name` in upper case, `argument` as the server sent it. The properties parse the argument, and
    raise ServerProtocolError if it does not match the name."""

    name: str
    argument: str = ""

    @property
    def number(self) -> int:
        """The number of UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, UNSEEN or APPENDLIMIT."""
        if not re.fullmatch(r"[0-9]{1,20}", self.argument, re.ASCII):
            raise ServerProtocolError(f"{self.name} has no number")
        return int(self.argument)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of CAPABILITY, PERMANENTFLAGS or BADCHARSET, without parentheses."""
        values = parse([self.argument.encode("utf-8", "surrogateescape")])
        if len(values) == 1 and isinstance(values[0], list):
            values = list_of(values[0])
        return tuple(value for value in values if isinstance(value, str))

    @property
    def numbers(self) -> SequenceSet:
        """The messages of MODIFIED, which a STORE left unchanged."""
        try:
            return SequenceSet.parse(self.argument)
        except ValueError as error:
            raise ServerProtocolError(f"{self.name} has no set of numbers") from error

    @property
    def appended(self) -> AppendedUid:
        match = re.fullmatch(r"([0-9]{1,10}) ([0-9,:]+)", self.argument, re.ASCII)
        if match is None:
            raise ServerProtocolError("APPENDUID has no UIDs")
        return AppendedUid(int(match[1]), tuple(self._ordered(match[2])))

    @property
    def copied(self) -> CopiedUids:
        match = re.fullmatch(r"([0-9]{1,10}) ([0-9,:]+) ([0-9,:]+)", self.argument, re.ASCII)
        if match is None:
            raise ServerProtocolError("COPYUID has no UIDs")
        sources, copies = self._ordered(match[2]), self._ordered(match[3])
        if len(sources) != len(copies):
            raise ServerProtocolError("COPYUID has sets of different sizes")
        return CopiedUids(int(match[1]), tuple(zip(sources, copies, strict=True)))

    def _ordered(self, text: str) -> list[int]:
        try:
            return ordered_numbers(text, MAX_COPIED)
        except ValueError as error:
            raise ServerProtocolError(f"{self.name} has no set of numbers") from error


def split_code(text: str) -> tuple[ResponseCode | None, str]:
    """Split a status text into its response code, or None, and the text for people."""
    match = _CODE.match(text) if text.startswith("[") else None
    if match is None:
        return None, text
    name, argument, rest = match.groups()
    return ResponseCode(name.upper(), argument or ""), rest
