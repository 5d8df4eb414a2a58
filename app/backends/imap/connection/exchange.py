"""A command on its way: aioimaplib's command object with an answer of its own and an end that cannot be missed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

from aioimaplib import aioimaplib as stock

from app.backends.imap.connection.answers import Collector, Completion, Ground, LiteralSink
from app.errors import MailServerError, ServerProtocolError
from app.wire.imap.encode import Command
from app.wire.imap.framing import Response

COMMAND_TIMEOUT_SECONDS = 60.0
MAX_RESPONSES = 2_000_000
"""Responses to one command."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""What is kept of them for its completion, with what each costs beside its own bytes."""
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
"""The untagged responses that a command asks for, by its name."""


Take = Callable[[Response], bool]
"""Whether a response was dealt with, so that it need not be kept."""


def take_all(_response: Response) -> bool:
    return True


def _take_none(_response: Response) -> bool:
    return False


def kept_bytes(response: Response) -> int:
    """What a response takes that is kept."""
    return RESPONSE_BYTES + sum([len(part) for part in response.parts if isinstance(part, bytes)])


_MODSEQ = rb"(?: ?MODSEQ \([0-9]+\))?"
_FLAGS_OF = re.compile(
    rb"\* [0-9]+ FETCH \((?:UID ([0-9]{1,10}))?%b ?FLAGS \([^()]*\)%b(?: UID ([0-9]{1,10}))?%b\)"
    % (_MODSEQ, _MODSEQ, _MODSEQ),
    re.IGNORECASE,
)
"""A response that tells a message's flags alone."""


class Exchange(stock.Command):
    """A command on its way: what came for it so far, and how it ended.

    `content` gives the bytes of a literal that the command holds without its data. `take` gets the untagged responses
    as they come; those of which it says False are kept for the completion. `sink` gets the large literals.
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
        """Return when the command has ended. Raises MailServerError when the connection ended first."""
        await super().wait()
        if self._error is not None:
            raise self._error

    @property
    def is_done(self) -> bool:
        return self._event.is_set()

    @property
    def completion(self) -> Completion:
        result, lines = self.response
        return Completion(result, lines[-1], self._kept)

    def take(self, response: Response) -> None:
        """Keep an untagged response. Raises ServerProtocolError for a flood."""
        self._taken += 1
        if self._taken > MAX_RESPONSES:
            raise ServerProtocolError("The server answers one command without end")
        if not self._take(response) and not self._is_news(response):
            self._keep(response)

    def _is_news(self, response: Response) -> bool:
        """Whether it tells nothing but the flags of a message that this command does not ask about.

        They come under any command: as many as there are messages, when another client changes them all. A watch
        reads them, or the next read of changes.
        """
        told = _FLAGS_OF.fullmatch(response.text)
        uids = self.command.uids
        return told is not None and not uids.from_last and int(told[1] or told[2] or 0) not in uids

    def _keep(self, response: Response) -> None:
        self._kept.append(response)
        self._kept_bytes += kept_bytes(response)
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise ServerProtocolError("The server answers one command with more than can be kept")

    def abandon(self) -> None:
        """Nobody waits any more. The command keeps its tag, and what still comes for it falls to the ground."""
        self.sink.close()
        self._kept, self.sink = [], Ground()
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
        """End the command by an error; by one of its own, since each waiting task raises it."""
        self._error = type(error)(error.detail, error.origin)
        self._error.__cause__ = error
        self.close(b"", "BAD")
