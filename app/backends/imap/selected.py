"""The selected mailbox, from the answers to SELECT (RFC 9051 §6.3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from app.errors import ServerProtocolError
from app.wire.imap.codes import ResponseCode
from app.wire.imap.responses import Exists, MailboxFlags, ServerResponse, Status

NO_VALIDITY = 1
"""Stands for the UIDVALIDITY of a server that tells 0 (SmarterMail) or none, against RFC 9051 §2.3.1.1."""


def validity_of(told: int) -> int:
    """The UIDVALIDITY that the index keeps for the one that a server tells."""
    return told or NO_VALIDITY


@dataclass(slots=True)
class Selected:
    """The selected mailbox as SELECT told. `highest_modseq` 0: it keeps none."""

    name: str
    uid_validity: int = 0
    uid_next: int = 0
    highest_modseq: int = 0
    exists: int = 0
    permanent_flags: frozenset[str] = frozenset()
    """In lower case; with `\\*` any keyword is kept."""

    @classmethod
    def told_by(cls, name: str, responses: Iterable[ServerResponse]) -> Selected:
        """What a server tells when it selects a mailbox; what it leaves out stays 0."""
        selected = cls(name)
        for response in responses:
            with suppress(ServerProtocolError):  # a code without its number says nothing
                selected._note(response)
        selected.uid_validity = validity_of(selected.uid_validity)
        return selected

    def _note(self, response: ServerResponse) -> None:
        if isinstance(response, Exists):
            self.exists = response.count
        elif isinstance(response, MailboxFlags) and not self.permanent_flags:
            self.permanent_flags = frozenset(flag.lower() for flag in response.flags)
        elif isinstance(response, Status) and response.code is not None:
            self._note_code(response.code)

    def _note_code(self, code: ResponseCode) -> None:
        match code.name:
            case "UIDVALIDITY":
                self.uid_validity = code.number
            case "UIDNEXT":
                self.uid_next = code.number
            case "HIGHESTMODSEQ":
                self.highest_modseq = code.number
            case "PERMANENTFLAGS":
                self.permanent_flags = frozenset(word.lower() for word in code.words)
