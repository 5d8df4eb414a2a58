"""Opens messages: their structure, including the parts in winmail.dat and calendars, and the bytes of parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from app.errors import GatewayError, PartNotFound, ServerProtocolError, ServerRefused, TooComplex
from app.mail.backend import Backends, ByteRange, MailBackend
from app.mail.types import BodyPart, Detail, Message
from app.mailstore.reader import MailReader
from app.mime.enclosed import MAX_CONTAINER_BYTES, containers
from app.mime.enclosed import opened as open_enclosed
from app.mime.structure import parse_structure
from app.mime.transfer import decode_transfer
from app.parsing.jobs import IN_THREADS, Parsers
from app.services.reading.rendering import TEXT_PART_LIMIT_BYTES

UNPARSED_LIMIT_BYTES = 1024 * 1024
"""How much is read of a message whose structure the server could not report, or reported as empty."""
UNREAD_LIMIT = 10_000
NOT_GIVEN = (PartNotFound, ServerRefused, ServerProtocolError)
"""Errors of a server that lists a message or part but does not return it."""


@dataclass(frozen=True, slots=True)
class OpenedMessage:
    """A message with its structure. `local` has part contents if the structure was parsed from the bytes.

    `inside`: the content of parts inside other parts, as in winmail.dat; `outer` is the structure without them.
    """

    message: Message
    detail: Detail
    structure: BodyPart
    local: Mapping[str, bytes] | None = None
    outer: BodyPart | None = None
    inside: Mapping[str, bytes] = field(default_factory=dict)


class Opener:
    """Opens messages to show, quote and forward them."""

    def __init__(self, backends: Backends, reader: MailReader, parsers: Parsers = IN_THREADS) -> None:
        self._backends = backends
        self._reader = reader
        self._parsers = parsers
        self._unread: set[str] = set()
        """Messages that their server did not return at the last request."""

    def is_given(self, message_id: str) -> bool:
        """Whether the server returned the message at the last request."""
        return message_id not in self._unread

    async def open(self, message: Message) -> OpenedMessage:
        """Open a message with the parts in its containers. If its server does not return it, `problems` says so."""
        detail = await self._reader.messages.detail(message.account_id, message.id)
        if detail.structure is not None and _holds_something(detail.structure):
            return await self._with_enclosed(OpenedMessage(message, detail, detail.structure))
        try:
            content = await self._beginning(message)
        except NOT_GIVEN as error:
            return self._not_given(message, detail, error)
        self._unread.discard(message.id)
        parsed = await self._parsers.run(message.account_id, len(content), parse_structure, content)
        structure, detail = parsed.structure, replace(detail, problems=detail.problems + parsed.problems)
        spans = {part.section: part.span for part in structure.walk() if part.span is not None}
        local = {key: content[span[1] : span[2]] for key, span in spans.items()}
        return await self._with_enclosed(OpenedMessage(message, detail, structure, local))

    async def _with_enclosed(self, opened: OpenedMessage) -> OpenedMessage:
        """Add the parts inside its containers. A container that is too complex stays an attachment."""
        parts = containers(opened.structure)
        if not parts:
            return opened
        raw = await self.contents(opened, parts, MAX_CONTAINER_BYTES)
        size_bytes = sum(map(len, raw.values()))
        with suppress(TooComplex):
            inside = await self._parsers.run(
                opened.message.account_id, size_bytes, open_enclosed, opened.structure, raw
            )
            return replace(opened, structure=inside.structure, outer=opened.structure, inside=inside.contents)
        return opened

    async def contents(
        self, opened: OpenedMessage, parts: Sequence[BodyPart], limit: int = TEXT_PART_LIMIT_BYTES
    ) -> dict[str, bytes]:
        """Return the encoded bytes of parts: those of usual size in one round trip, and the beginning of larger ones.

        A part that the server lists but does not return is omitted: Cyrus does so with one nested fifty deep.
        """
        contents = {part.section: opened.inside[part.section] for part in parts if part.section in opened.inside}
        parts = [part for part in parts if part.section not in contents]
        if not parts:
            return contents
        backend = await self._backends.of(opened.message.account_id)
        usual = [part.section for part in parts if part.size_bytes <= limit]
        if opened.local is None and usual:
            with suppress(*NOT_GIVEN):  # then one by one: others may be returned
                contents |= await backend.read_parts(opened.message, usual)
        for part in parts:
            if part.section not in contents:
                with suppress(*NOT_GIVEN):
                    contents[part.section] = await self._read(backend, opened, part, limit)
        return contents

    async def _read(self, backend: MailBackend, opened: OpenedMessage, part: BodyPart, limit: int) -> bytes:
        if opened.local is not None:
            return opened.local.get(part.section, b"")[:limit]
        pieces = backend.read_part(opened.message, part.section, ByteRange(0, limit))
        return b"".join([piece async for piece in pieces])

    async def _beginning(self, message: Message) -> bytes:
        backend = await self._backends.of(message.account_id)
        pieces = backend.read_raw(message, ByteRange(0, UNPARSED_LIMIT_BYTES))
        return b"".join([piece async for piece in pieces])

    def _not_given(self, message: Message, detail: Detail, error: GatewayError) -> OpenedMessage:
        """Return what the index has of a message that its server does not return, with the reason."""
        if len(self._unread) >= UNREAD_LIMIT:
            self._unread.clear()
        self._unread.add(message.id)
        problem = f"the mail server did not return this message: {error.detail}"
        return OpenedMessage(
            message, replace(detail, problems=(*detail.problems, problem)), BodyPart("1", "text/plain"), {}
        )


def held(opened: OpenedMessage, part: BodyPart) -> bytes | None:
    """Return the decoded content of a part that need not or cannot be read from the server, else None."""
    if part.section in opened.inside:
        return opened.inside[part.section]
    if opened.local is not None:  # the server does not know these parts
        return decode_transfer(opened.local.get(part.section, b""), part.encoding)[0]
    return None


def _holds_something(structure: BodyPart) -> bool:
    """Whether any part has bytes. Servers report one empty part for a multipart without its boundary."""
    return any(part.size_bytes for part in structure.walk() if not part.is_multipart)
