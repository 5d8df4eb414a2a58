"""The selected mailbox, from the responses to SELECT (RFC 9051 §6.3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from app.errors import ServerProtocolError
from app.wire.imap.codes import ResponseCode
from app.wire.imap.responses import Exists, MailboxFlags, ServerResponse, Status

NO_VALIDITY = 1
"""UIDVALIDITY of servers that report 0 (SmarterMail) or none, in violation of RFC 9051 §2.3.1.1."""


def validity_of(reported: int) -> int:
    """The UIDVALIDITY that the index stores for a reported one."""
    return reported or NO_VALIDITY


@dataclass(slots=True)
class Selected:
    """The selected mailbox as reported by SELECT. `highest_modseq` is 0 without CONDSTORE."""

    name: str
    uid_validity: int = 0
    uid_next: int = 0
    highest_modseq: int = 0
    exists: int = 0
    permanent_flags: frozenset[str] = frozenset()
    """In lower case. `\\*` means that the server stores any keyword."""

    @classmethod
    def from_responses(cls, name: str, responses: Iterable[ServerResponse]) -> Selected:
        """Read the responses to SELECT. Missing numbers stay 0."""
        selected = cls(name)
        for response in responses:
            with suppress(ServerProtocolError):  # a code without a number is ignored
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
