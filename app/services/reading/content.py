"""What is in a message: its body, its parts, its attachments, its header, its bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from app.errors import GatewayError, MessageNotFound, PartNotFound, ServerProtocolError, ServerRefused, TooComplex
from app.mail.backend import Backends, ByteRange, MailBackend
from app.mail.storable import json_bytes
from app.mail.types import AccountId, BodyPart, Detail, Message
from app.mailstore.reader import MailReader
from app.mailstore.rows import addresses_to_json
from app.mime.body import part_at
from app.mime.enclosed import MAX_TNEF_BYTES, calendar_of, containers, invitation_in
from app.mime.enclosed import opened as open_enclosed
from app.mime.header import readable_fields, readable_values
from app.mime.sanitise import Look
from app.mime.structure import parse_structure
from app.parsing.jobs import IN_THREADS, SMALL_BYTES, Parsers
from app.parsing.shared import SingleFlight
from app.services.access.callers import Caller
from app.services.access.links import Target, image_mark, marked
from app.services.access.visibility import seen_among
from app.services.reading.cache import RecentBytes
from app.services.reading.downloads import DecodedPart, HeldPart, PartSizes, Stored
from app.services.reading.rendering import (
    PLAIN_LOOK,
    TEXT_PART_LIMIT_BYTES,
    Body,
    Pictures,
    attachment_id,
    attachment_object,
    attachment_parts,
    cid_urls,
    picture_type,
    plain_body,
    render_body,
    render_with_pictures,
    text_parts,
)
from app.services.reading.sizes import AttachmentSizes

CACHE_BYTES = 64 * 1024 * 1024
"""Bodies that were rendered; an eighth of it at most is one body."""
UNPARSED_LIMIT_BYTES = 1024 * 1024
"""How much is read of a message whose structure the origin could not tell, or in which it saw nothing."""
INLINE_LIMIT_BYTES = 2 * 1024 * 1024
"""Pictures of a message that are put into its HTML, together."""
PICTURES_LIMIT = 200
"""How many pictures of a message are put into its HTML."""
PARTS_LIMIT = 500
"""From so many parts on, no part is read for the sake of its exact size: each reading looks for it among all."""
UNREAD_LIMIT = 10_000
NOT_GIVEN = (PartNotFound, ServerRefused, ServerProtocolError)
"""The errors of a server that lists a message or part and then does not return it."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A message with its structure; `local` holds part contents where the structure came from the bytes themselves.

    `inside`: the content of parts that were found in others, as in winmail.dat; `outer` is the structure without them.
    """

    message: Message
    detail: Detail
    structure: BodyPart
    local: Mapping[str, bytes] | None = None
    outer: BodyPart | None = None
    inside: Mapping[str, bytes] = field(default_factory=dict)


class Content:
    """Reads messages. What was rendered is remembered, for the content of a message never changes."""

    def __init__(self, backends: Backends, reader: MailReader, parsers: Parsers = IN_THREADS) -> None:
        self._backends = backends
        self._reader = reader
        self._parsers = parsers
        self._bodies = RecentBytes(CACHE_BYTES)
        self._rendering: SingleFlight[bytes] = SingleFlight()
        self._sizes = PartSizes()
        self._attachment_sizes = AttachmentSizes(backends, self._sizes)
        self._unread: set[str] = set()
        """Messages that their server did not give when they were asked for last."""

    async def message(self, account_id: AccountId, caller: Caller, message_id: str) -> Message:
        """A message that the caller may see. MessageNotFound."""
        found = await self.messages(account_id, caller, [message_id])
        if not found:
            raise MessageNotFound
        return found[0]

    async def messages(self, account_id: AccountId, caller: Caller, ids: Sequence[str]) -> list[Message]:
        """Those that exist and the caller may see, in the order asked for."""
        return await seen_among(self._reader, await self._reader.messages.find(account_id, ids), caller.mailbox_ids)

    # ---- the whole of it, readable

    async def full(self, message: Message, *, has_body: bool = True) -> bytes:
        """The JSON members that `view=full` adds to a summary but `locations`, without braces.

        Without `has_body` no text is read, and `text` and `html` are not among them.
        """
        return await self._remembered(message, f"{has_body:d}", lambda: self._made(message, has_body=has_body))

    async def _remembered(self, message: Message, form: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """What was made of a message lately, or is being made of a large one for somebody else, or is made now."""
        key = f"{message.id} {form}"
        cached = self._bodies.get(key)
        if cached is not None:
            return cached
        if message.size_bytes <= SMALL_BYTES:
            return await self._kept(key, make)
        return await self._rendering.run(key, lambda: self._kept(key, make))

    async def _kept(self, key: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        made = await make()
        if key.partition(" ")[0] not in self._unread:
            self._bodies.put(key, made)
        return made

    async def locations(self, message: Message, caller: Caller) -> list[dict[str, Any]]:
        """Where a message is, as the API shows it: as far as the caller sees it."""
        found = []
        for place, _ in await self._reader.messages.places(message):
            if caller.sees_mailbox(place.mailbox_id):
                mailbox = await self._reader.mailboxes.mailbox(message.account_id, place.mailbox_id)
                found.append({"mailbox_id": mailbox.id, "uid": place.uid, "uid_validity": mailbox.uid_validity})
        return found

    async def _made(self, message: Message, *, has_body: bool) -> bytes:
        opened = await self._open(message)
        attachments = attachment_parts(opened.structure)
        members: dict[str, Any] = {"bcc": addresses_to_json(opened.detail.bcc)}
        problems: tuple[str, ...] = opened.detail.problems
        if has_body:
            urls = cid_urls(attachments, lambda part: marked(Target(part.section)))
            body = await self._body(opened, render_body, urls)
            members |= {"text": body.text, "html": body.html, "invitation": await self._invitation(opened)}
            problems += body.problems
        is_cheap = sum(1 for _ in opened.structure.walk()) < PARTS_LIMIT
        sizes = await self._attachment_sizes.of(message, attachments, is_cheap=is_cheap)
        members["attachments"] = [
            attachment_object(message.id, part, size) for part, size in zip(attachments, sizes, strict=True)
        ]
        members["problems"] = list(dict.fromkeys(problems))
        return json_bytes(members)[1:-1]

    async def body(self, message: Message, look: Look) -> Body:
        """The body alone, its own pictures inside the HTML."""
        made = await self._remembered(message, f"{look.images} {look.quotes}", lambda: self._made_body(message, look))
        text, html, problems = orjson.loads(made)
        return Body(text, html, tuple(problems))

    async def _made_body(self, message: Message, look: Look) -> bytes:
        look = replace(look, image_mark=image_mark())
        opened = await self._open(message)
        body = await self._body(opened, render_with_pictures, await self._pictures(opened), look)
        return json_bytes((body.text, body.html, body.problems))

    async def _pictures(self, opened: _Opened) -> Pictures:
        """The pictures that the HTML may show: INLINE_LIMIT_BYTES of them inside it, the others as links."""
        parts: list[BodyPart] = []
        left = INLINE_LIMIT_BYTES
        attachments = attachment_parts(opened.structure)
        for part in attachments:
            size_bytes = part.size_bytes * 3 // 4 if part.encoding == "base64" else part.size_bytes
            if part.content_id and picture_type(part) and size_bytes <= left and len(parts) < PICTURES_LIMIT:
                left -= size_bytes
                parts.append(part)
        contents = await self._contents(opened, parts)
        inside = [(part, contents[part.section]) for part in parts if part.section in contents]
        return Pictures(inside, cid_urls(attachments, lambda part: marked(Target(part.section))))

    async def _body(self, opened: _Opened, render: Callable[..., Body], shown: Any, look: Look = PLAIN_LOOK) -> Body:
        """The body by one of the functions of `rendering`; `shown` is what it takes for pictures."""
        wanted = text_parts(opened.structure)
        contents = await self._contents(opened, wanted.parts)
        size_bytes = sum(map(len, contents.values())) + (shown.size_bytes if isinstance(shown, Pictures) else 0)
        try:
            body = await self._parsers.run(
                opened.message.account_id, size_bytes, render, opened.structure, contents, shown, look
            )
        except TooComplex:
            body = plain_body(opened.structure, contents)
        untold = tuple(
            f"part {one.section}: the mail server does not give it"
            for one in wanted.parts
            if one.section not in contents
        )
        return Body(body.text, body.html, wanted.problems + untold + body.problems)

    async def _contents(
        self, opened: _Opened, parts: Sequence[BodyPart], limit: int = TEXT_PART_LIMIT_BYTES
    ) -> dict[str, bytes]:
        """Their encoded bytes: what is of usual size in one round trip, of what is larger the beginning.

        A part that the server lists and does not return is left out: Cyrus does so with one nested fifty deep.
        """
        contents = {part.section: opened.inside[part.section] for part in parts if part.section in opened.inside}
        parts = [part for part in parts if part.section not in contents]
        if not parts:
            return contents
        backend = await self._backends.of(opened.message.account_id)
        usual = [part.section for part in parts if part.size_bytes <= limit]
        if opened.local is None and usual:
            with suppress(*NOT_GIVEN):  # then one by one: others may be given
                contents |= await backend.read_parts(opened.message, usual)
        for part in parts:
            if part.section not in contents:
                with suppress(*NOT_GIVEN):
                    contents[part.section] = await self._read(backend, opened, part, limit)
        return contents

    async def _read(self, backend: MailBackend, opened: _Opened, part: BodyPart, limit: int) -> bytes:
        if opened.local is not None:
            return opened.local.get(part.section, b"")[:limit]
        pieces = backend.read_part(opened.message, part.section, ByteRange(0, limit))
        return b"".join([piece async for piece in pieces])

    async def _open(self, message: Message) -> _Opened:
        detail = await self._reader.messages.detail(message.account_id, message.id)
        if detail.structure is not None and _holds_something(detail.structure):
            return await self._with_enclosed(_Opened(message, detail, detail.structure))
        try:
            content = await self._beginning(message)
        except NOT_GIVEN as error:
            return self._not_given(message, detail, error)
        self._unread.discard(message.id)
        parsed = await self._parsers.run(message.account_id, len(content), parse_structure, content)
        structure, detail = parsed.structure, replace(detail, problems=detail.problems + parsed.problems)
        spans = {part.section: part.span for part in structure.walk() if part.span is not None}
        local = {key: content[span[1] : span[2]] for key, span in spans.items()}
        return await self._with_enclosed(_Opened(message, detail, structure, local))

    async def _with_enclosed(self, found: _Opened) -> _Opened:
        """The same with the parts inside its containers. A container that is too complex stays an attachment."""
        parts = containers(found.structure)
        if not parts:
            return found
        raw = await self._contents(found, parts, MAX_TNEF_BYTES)
        size_bytes = sum(map(len, raw.values()))
        with suppress(TooComplex):
            inside = await self._parsers.run(found.message.account_id, size_bytes, open_enclosed, found.structure, raw)
            return replace(found, structure=inside.structure, outer=found.structure, inside=inside.contents)
        return found

    async def _invitation(self, opened: _Opened) -> dict[str, Any] | None:
        """The invitation of a message as the API shows it."""
        part = calendar_of(opened.outer or opened.structure)
        raw = await self._contents(opened, [part]) if part is not None else {}
        if part is None or part.section not in raw:
            return None
        with suppress(TooComplex):
            found = await self._parsers.run(
                opened.message.account_id, len(raw[part.section]), invitation_in, part, raw[part.section]
            )
            return None if found is None else asdict(found)
        return None

    async def _beginning(self, message: Message) -> bytes:
        backend = await self._backends.of(message.account_id)
        pieces = backend.read_raw(message, ByteRange(0, UNPARSED_LIMIT_BYTES))
        return b"".join([piece async for piece in pieces])

    def _not_given(self, message: Message, detail: Detail, error: GatewayError) -> _Opened:
        """A message that its server does not give: its row is shown, and says why there is no more."""
        if len(self._unread) >= UNREAD_LIMIT:
            self._unread.clear()
        self._unread.add(message.id)
        problem = f"the mail server does not give this message: {error.detail}"
        return _Opened(message, replace(detail, problems=(*detail.problems, problem)), BodyPart("1", "text/plain"), {})

    # ---- pieces

    async def raw(self, message: Message) -> Stored:
        """The message as it was received."""
        return Stored(await self._backends.of(message.account_id), message, "", message.size_bytes, self._sizes)

    async def part(self, message: Message, section: str) -> DecodedPart | HeldPart:
        """A part by its section number. PartNotFound."""
        opened = await self._open(message)
        part = part_at(opened.outer or opened.structure, section) if section else None
        part = part or (part_at(opened.structure, section) if section in opened.inside else None)
        if part is None:
            raise PartNotFound
        return await self._decoded(opened, part)

    async def attachment(self, message: Message, id_: str) -> DecodedPart | HeldPart:
        """A part by its attachment id. PartNotFound."""
        opened = await self._open(message)
        for part in attachment_parts(opened.structure):
            if attachment_id(message.id, part.section) == id_:
                return await self._decoded(opened, part)
        raise PartNotFound

    async def _decoded(self, opened: _Opened, part: BodyPart) -> DecodedPart | HeldPart:
        if part.section in opened.inside:
            return HeldPart(part, opened.inside[part.section])
        backend = await self._backends.of(opened.message.account_id)
        return DecodedPart(backend, opened.message, part, self._sizes)

    async def fields(self, message: Message) -> list[tuple[str, str]]:
        """All header fields in order, decoded. TooComplex."""
        block = await self.header(message)
        return await self._parsers.run(message.account_id, len(block), readable_fields, block)

    async def values(self, message: Message, names: Sequence[str]) -> dict[str, list[str]]:
        """The values of header fields by these names, decoded. TooComplex."""
        block = await self.header(message)
        return await self._parsers.run(message.account_id, len(block), readable_values, block, names)

    async def header(self, message: Message) -> bytes:
        """The header block as it is."""
        detail = await self._reader.messages.detail(message.account_id, message.id)
        if detail.header is not None:
            return detail.header
        backend = await self._backends.of(message.account_id)
        return (await backend.read_parts(message, ["HEADER"]))["HEADER"]


def _holds_something(structure: BodyPart) -> bool:
    """Whether any part has bytes. Of a multipart without its boundary servers tell one empty part that isn't there."""
    return not structure.is_multipart or any(part.size_bytes for part in structure.walk() if not part.is_multipart)
