"""The content of a message: its body, parts, attachments, header and bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import orjson

from app.errors import MessageNotFound, PartNotFound, TooComplex
from app.mail.backend import Backends
from app.mail.storable import json_bytes
from app.mail.summaries import addresses_to_json
from app.mail.types import AccountId, BodyPart, Message
from app.mailstore.reader import MailReader
from app.mime.body import part_at
from app.mime.enclosed import calendar_of, invitation_in
from app.mime.header import readable_fields, readable_values
from app.mime.sanitise import Look
from app.parsing.jobs import IN_THREADS, SMALL_BYTES, Parsers
from app.parsing.shared import SingleFlight
from app.services.access.callers import Caller
from app.services.access.links import Target, image_mark, marked
from app.services.access.visibility import seen_among
from app.services.reading.cache import RecentBytes
from app.services.reading.downloads import DecodedPart, HeldPart, PartSizes, Stored
from app.services.reading.opening import OpenedMessage, Opener, held
from app.services.reading.rendering import (
    PLAIN_LOOK,
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
"""The size of the cache of rendered bodies; one body may take an eighth of it."""
INLINE_LIMIT_BYTES = 2 * 1024 * 1024
"""The most bytes of a message's pictures inside its HTML, together."""
PICTURES_LIMIT = 200
"""The most pictures of a message inside its HTML."""
PARTS_LIMIT = 500
"""From this number of parts on, no part is read for its exact size: each read searches all parts."""


class Content:
    """Reads messages. Rendered bodies are cached, because the content of a message never changes."""

    def __init__(self, backends: Backends, reader: MailReader, parsers: Parsers = IN_THREADS) -> None:
        self._backends = backends
        self._reader = reader
        self._opener = Opener(backends, reader, parsers)
        self._parsers = parsers
        self._bodies = RecentBytes(CACHE_BYTES)
        self._rendering: SingleFlight[bytes] = SingleFlight()
        self._sizes = PartSizes()
        self._attachment_sizes = AttachmentSizes(backends, self._sizes)

    async def message(self, account_id: AccountId, caller: Caller, message_id: str) -> Message:
        """Return a message that the caller may see. Raises MessageNotFound."""
        messages = await self.messages(account_id, caller, [message_id])
        if not messages:
            raise MessageNotFound
        return messages[0]

    async def messages(self, account_id: AccountId, caller: Caller, ids: Sequence[str]) -> list[Message]:
        """Return those that exist and the caller may see, in the order of `ids`."""
        return await seen_among(self._reader, await self._reader.messages.find(account_id, ids), caller.mailbox_ids)

    # ---- the readable message

    async def full(
        self, message: Message, look: Look = PLAIN_LOOK, *, has_body: bool = True, has_pictures: bool = False
    ) -> bytes:
        """Return the JSON members that `view=full` adds to a summary, except `locations`, without braces.

        Without `has_body`, no text is read, and `text` and `html` are omitted. With `has_pictures`, the HTML contains
        the pictures of the message, as in `body`; otherwise it has links to them.
        """
        form = f"{has_body:d}{has_pictures:d} {look.images} {look.quotes}" if has_body else "0"
        return await self._remembered(
            message, form, lambda: self._made(message, look, has_body=has_body, has_pictures=has_pictures)
        )

    async def _remembered(self, message: Message, form: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the cached result, or that of a concurrent call for a large message, or make it."""
        key = f"{message.id} {form}"
        cached = self._bodies.get(key)
        if cached is not None:
            return cached
        if message.size_bytes <= SMALL_BYTES:
            return await self._made_and_cached(key, make)
        return await self._rendering.run(key, lambda: self._made_and_cached(key, make))

    async def _made_and_cached(self, key: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        made = await make()
        if self._opener.is_given(key.partition(" ")[0]):
            self._bodies.put(key, made)
        return made

    async def locations(self, message: Message, caller: Caller) -> list[dict[str, Any]]:
        """Return the placements of a message that the caller sees, as the API shows them."""
        placements = []
        for place, _ in await self._reader.messages.places(message):
            if caller.sees_mailbox(place.mailbox_id):
                mailbox = await self._reader.mailboxes.mailbox(message.account_id, place.mailbox_id)
                placements.append({"mailbox_id": mailbox.id, "uid": place.uid, "uid_validity": mailbox.uid_validity})
        return placements

    async def _made(self, message: Message, look: Look, *, has_body: bool, has_pictures: bool) -> bytes:
        opened = await self._opener.open(message)
        attachments = attachment_parts(opened.structure)
        members: dict[str, Any] = {"bcc": addresses_to_json(opened.detail.bcc)}
        problems: tuple[str, ...] = opened.detail.problems
        if has_body:
            body = await self._readable(opened, look, has_pictures=has_pictures)
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
        """Return the body alone, with its own pictures inside the HTML."""
        made = await self._remembered(message, f"{look.images} {look.quotes}", lambda: self._made_body(message, look))
        text, html, problems = orjson.loads(made)
        return Body(text, html, tuple(problems))

    async def _made_body(self, message: Message, look: Look) -> bytes:
        body = await self._readable(await self._opener.open(message), look, has_pictures=True)
        return json_bytes((body.text, body.html, body.problems))

    async def _readable(self, opened: OpenedMessage, look: Look, *, has_pictures: bool) -> Body:
        """Return the body with its own pictures inside the HTML, up to the limit, or with links to all of them."""
        look = replace(look, image_mark=image_mark())
        if has_pictures:
            return await self._body(opened, render_with_pictures, await self._pictures(opened), look)
        urls = cid_urls(attachment_parts(opened.structure), lambda part: marked(Target(part.section)))
        return await self._body(opened, render_body, urls, look)

    async def _pictures(self, opened: OpenedMessage) -> Pictures:
        """Return the pictures that the HTML may show: INLINE_LIMIT_BYTES of them inside it, the others as links."""
        parts: list[BodyPart] = []
        room = INLINE_LIMIT_BYTES
        attachments = attachment_parts(opened.structure)
        for part in attachments:
            size_bytes = part.size_bytes * 3 // 4 if part.encoding == "base64" else part.size_bytes
            if part.content_id and picture_type(part) and size_bytes <= room and len(parts) < PICTURES_LIMIT:
                room -= size_bytes
                parts.append(part)
        contents = await self._opener.contents(opened, parts)
        inside = [(part, contents[part.section]) for part in parts if part.section in contents]
        return Pictures(inside, cid_urls(attachments, lambda part: marked(Target(part.section))))

    async def _body(self, opened: OpenedMessage, render: Callable[..., Body], pictures: Any, look: Look) -> Body:
        """Render the body by a function of `rendering`; `shown` is its argument for pictures."""
        wanted = text_parts(opened.structure)
        contents = await self._opener.contents(opened, wanted.parts)
        size_bytes = sum(map(len, contents.values())) + (pictures.size_bytes if isinstance(pictures, Pictures) else 0)
        try:
            body = await self._parsers.run(
                opened.message.account_id, size_bytes, render, opened.structure, contents, pictures, look
            )
        except TooComplex:
            body = plain_body(opened.structure, contents)
        missing = tuple(
            f"part {part.section}: the mail server does not return it"
            for part in wanted.parts
            if part.section not in contents
        )
        return Body(body.text, body.html, wanted.problems + missing + body.problems)

    async def _invitation(self, opened: OpenedMessage) -> dict[str, Any] | None:
        """Return the invitation of a message as the API shows it."""
        part = calendar_of(opened.outer or opened.structure)
        raw = await self._opener.contents(opened, [part]) if part is not None else {}
        if part is None or part.section not in raw:
            return None
        with suppress(TooComplex):
            invitation = await self._parsers.run(
                opened.message.account_id, len(raw[part.section]), invitation_in, part, raw[part.section]
            )
            return None if invitation is None else asdict(invitation)
        return None

    # ---- parts and bytes

    async def raw(self, message: Message) -> Stored:
        """Return the message as it was received."""
        return Stored(await self._backends.of(message.account_id), message, "", message.size_bytes, self._sizes)

    async def part(self, message: Message, section: str) -> DecodedPart | HeldPart:
        """Return a part by its section number. Raises PartNotFound."""
        opened = await self._opener.open(message)
        part = part_at(opened.outer or opened.structure, section) if section else None
        part = part or (part_at(opened.structure, section) if section in opened.inside else None)
        if part is None:
            raise PartNotFound
        return await self._decoded(opened, part)

    async def attachment(self, message: Message, id_: str) -> DecodedPart | HeldPart:
        """Return a part by its attachment id. Raises PartNotFound."""
        opened = await self._opener.open(message)
        for part in attachment_parts(opened.structure):
            if attachment_id(message.id, part.section) == id_:
                return await self._decoded(opened, part)
        raise PartNotFound

    async def _decoded(self, opened: OpenedMessage, part: BodyPart) -> DecodedPart | HeldPart:
        content = held(opened, part)
        if content is not None:
            return HeldPart(part, content)
        backend = await self._backends.of(opened.message.account_id)
        return DecodedPart(backend, opened.message, part, self._sizes)

    async def fields(self, message: Message) -> list[tuple[str, str]]:
        """Return all header fields in order, decoded. Raises TooComplex."""
        block = await self.header(message)
        return await self._parsers.run(message.account_id, len(block), readable_fields, block)

    async def values(self, message: Message, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the values of header fields by these names, decoded. Raises TooComplex."""
        block = await self.header(message)
        return await self._parsers.run(message.account_id, len(block), readable_values, block, names)

    async def header(self, message: Message) -> bytes:
        """Return the header as received."""
        detail = await self._reader.messages.detail(message.account_id, message.id)
        if detail.header is not None:
            return detail.header
        backend = await self._backends.of(message.account_id)
        return (await backend.read_parts(message, ["HEADER"]))["HEADER"]
