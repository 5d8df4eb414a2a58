"""Status responses (RFC 9051 §7.1), and the responses to errors (RFC 5530)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.errors import GatewayError, MalformedRequest

_NO_TEXT = re.compile(r"[^\x20-\x7e]")
_TEXT_LIMIT = 400


class CommandRefused(GatewayError):
    """A valid command that is refused, with a response code."""

    code = "imap_command_refused"

    def __init__(self, response_code: str, detail: str) -> None:
        super().__init__(detail)
        self.response_code = response_code


@dataclass(frozen=True, slots=True)
class Completion:
    """The completion of a command: `OK [code] text`."""

    text: str
    code: str = ""
    status: str = "OK"

    def line(self, tag: str) -> bytes:
        """Return the tagged response; `*` as tag makes it untagged."""
        code = f"[{self.code}] " if self.code else ""
        return f"{tag} {self.status} {code}{_plain(self.text)}\r\n".encode("ascii", "replace")


def refusal(error: GatewayError) -> Completion:
    """Return the completion of a command that raised this error."""
    if isinstance(error, MalformedRequest):
        return Completion(error.detail, status="BAD")
    if isinstance(error, CommandRefused):
        return Completion(error.detail, error.response_code, "NO")
    return Completion(error.detail, error.problem.imap, "NO")


def _plain(text: str) -> str:
    """Return a text that cannot end the line or be read as a response code."""
    text = _NO_TEXT.sub("?", text[:_TEXT_LIMIT])
    return text.lstrip("[") or "Done"
