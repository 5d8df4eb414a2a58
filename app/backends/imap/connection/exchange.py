"""A command in progress: aioimaplib's command object with our own completion."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

from aioimaplib import aioimaplib as stock

from app.backends.imap.connection.answers import Collector, CommandCompletion, DiscardingSink, LiteralSink
from app.errors import MailServerError, ServerProtocolError
from app.wire.imap.encode import Command
from app.wire.imap.framing import Response

COMMAND_TIMEOUT_SECONDS = 60.0
MAX_RESPONSES = 2_000_000
"""Responses to one command."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Bytes of responses kept for a completion, including RESPONSE_BYTES of overhead for each."""
RESPONSE_BYTES = 200


_ANSWERS = {
    "UID FETCH": frozenset({b"FETCH"}),
    "UID STORE": frozenset({b"FETCH"}),
    "UID SEARCH": frozenset({b"SEARCH", b"ESEARCH"}),
    "LIST": frozenset({b"LIST", b"STATUS"}),
    "LSUB": frozenset({b"LSUB"}),
    "STATUS": frozenset({b"STATUS"}),
    "ID": frozenset({b"ID"}),
    "ENABLE": frozenset({b"ENABLED"}),
    "NAMESPACE": frozenset({b"NAMESPACE"}),
    "GETQUOTAROOT": frozenset({b"QUOTAROOT", b"QUOTA"}),
}
"""The untagged responses that a command requests, by its name."""


Take = Callable[[Response], bool]
"""Handles a response; returns True if it need not be kept."""


def take_all(_response: Response) -> bool:
    return True


def _take_none(_response: Response) -> bool:
    return False


def kept_bytes(response: Response) -> int:
    """Memory that a kept response takes."""
    return RESPONSE_BYTES + sum([len(part) for part in response.parts if isinstance(part, bytes)])


_MODSEQ = rb"(?: ?MODSEQ \([0-9]+\))?"
_FLAGS_OF = re.compile(
    rb"\* [0-9]+ FETCH \((?:UID ([0-9]{1,10}))?%b ?FLAGS \([^()]*\)%b(?: UID ([0-9]{1,10}))?%b\)"
    % (_MODSEQ, _MODSEQ, _MODSEQ),
    re.IGNORECASE,
)
"""A response with only a message's flags."""


class Exchange(stock.Command):
    """A command in progress, with its responses and completion.

    `content` provides the data of the command's literal. `take` receives the untagged responses as they arrive; those
    for which it returns False are kept for the completion. `sink` receives the large literals.
    """

    def __init__(
        self,
        command: Command,
        tag: str,
        *,
        content: AsyncIterator[bytes] | None = None,
        take: Take | None = None,
        sink: LiteralSink | None = None,
        timeout_seconds: float = COMMAND_TIMEOUT_SECONDS,
    ) -> None:
        super().__init__(command.name, tag)
        self.command = command
        self.content = content
        self.sink: LiteralSink = sink or Collector()
        self.timeout_seconds = timeout_seconds
        self.deadline: asyncio.TimerHandle | None = None
        self.ends_plaintext = command.name == "STARTTLS"
        self.begins_compression = command.name == "COMPRESS"
        self._kept: list[Response] = []
        self._kept_bytes = 0
        self._take = take or _take_none
        self._taken = 0
        self._error: MailServerError | None = None
        self.on_end: Callable[[], object] | None = None
        """Called once when the command has ended."""
        self.expects = _ANSWERS.get(command.name, frozenset())

    async def wait(self) -> None:
        """Wait for the end of the command. Raises MailServerError if the connection ends first."""
        await super().wait()
        if self._error is not None:
            raise self._error

    @property
    def is_done(self) -> bool:
        return self._event.is_set()

    @property
    def completion(self) -> CommandCompletion:
        result, lines = self.response
        return CommandCompletion(result, lines[-1], self._kept)

    def take(self, response: Response) -> None:
        """Handle an untagged response. Raises ServerProtocolError if there are too many."""
        self._taken += 1
        if self._taken > MAX_RESPONSES:
            raise ServerProtocolError("The server sends too many responses to one command")
        if not self._take(response) and not self._is_unsolicited_flags(response):
            self._keep(response)

    def _is_unsolicited_flags(self, response: Response) -> bool:
        """Whether a response only has flags of a message that this command did not request.

        They may arrive during any command, one per message when another client changes them all. The watch, or the next
        read of changes, handles them.
        """
        match = _FLAGS_OF.fullmatch(response.text)
        uids = self.command.uids
        return match is not None and not uids.from_last and int(match[1] or match[2] or 0) not in uids

    def _keep(self, response: Response) -> None:
        self._kept.append(response)
        self._kept_bytes += kept_bytes(response)
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise ServerProtocolError("The server sends too much data in response to one command")

    def abandon(self) -> None:
        """Stop waiting for the command. Its tag stays in use, and further responses are discarded."""
        self.sink.close()
        self._kept, self.sink = [], DiscardingSink()
        self._take = take_all

    def close(self, line: bytes, result: str) -> None:
        """End the command."""
        super().close(line, result)
        if self.deadline is not None:
            self.deadline.cancel()
        self.sink.close()
        if self.on_end is not None:
            self.on_end()

    def fail(self, error: MailServerError) -> None:
        """End the command by a copy of an error, because each waiting task raises its own."""
        self._error = type(error)(error.detail, error.origin)
        self._error.__cause__ = error
        self.close(b"", "BAD")
