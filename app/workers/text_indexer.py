"""Fills the full-text index: reads messages, takes out their text, writes it a little at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, ParamSpec, TypeVar

from app.errors import (
    GatewayError,
    MailboxNotFound,
    MessageNotFound,
    PartNotFound,
    ServerProtocolError,
    ServerRefused,
    TooComplex,
    Unavailable,
)
from app.mail.backend import Backends, MailBackend
from app.mail.delta import Delta, Location, Previewed, TextExtracted
from app.mail.identifiers import content_digest
from app.mail.searchable import Searchable
from app.mail.types import AccountId, BodyPart, Message
from app.mailstore.blobs import BlobMissing
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.texts import TextIndex
from app.mime.searchable import places_of, searchable_in_all, searchable_in_parts
from app.mime.text import preview_of
from app.mirror.account import Mirror
from app.parsing.jobs import IN_THREADS, Parsers
from app.telemetry import get_logger
from app.workers.limiters import Limiter
from app.workers.loop import forever
from app.workers.text_index_quota import NO_LIMIT, TextIndexQuota, TextLimits

log = get_logger(__name__)

AT_ONCE = 50
READ_BYTES = 1024 * 1024
"""How much of messages is in memory at a time, unless one message is larger."""
WRITTEN_BYTES = 64 * 1024
"""Text of one transaction: some 20 ms of writing."""
LOCAL_BYTES = 16 * 1024 * 1024
"""How large a message may be that lies here."""
REFUSED_IN_A_ROW = 10
"""Previews of messages of one mailbox that a server refuses one after the other before the others are left alone."""
LARGE_PARTS = 50
"""Parts of a message that is read part by part."""
ACCOUNTS_READ_AT_ONCE = 4
READ_AT_ONE_HOST = 2
PATIENCE_SECONDS = 20.0
"""A batch that takes longer waits for its server, and makes room for another host's."""
ACCOUNTS_AT_ONCE = 20
LOOK_SECONDS = 1.0

P = ParamSpec("P")
T = TypeVar("T")

Apply = Callable[[Delta], Awaitable[object]]


class TextReader:
    """Takes messages into the index within the limits: the newest of an account, where there are too many.

    A few accounts are read in the background at a time, fewer of one host; one batch of text is taken apart and
    written at a time, and as long as that took, so long the account rests.
    """

    def __init__(
        self, reader: MailReader, text_index: TextIndex, limits: TextLimits, parsers: Parsers = IN_THREADS
    ) -> None:
        self._parsers = parsers
        self._reader = reader
        self._text_index = text_index
        self._limits = limits
        self.room = TextIndexQuota(text_index, limits)
        self._places = Limiter(ACCOUNTS_READ_AT_ONCE, READ_AT_ONE_HOST, PATIENCE_SECONDS)
        self._turn = asyncio.Lock()

    async def read_some(self, account_id: AccountId, backend: MailBackend, apply: Apply) -> bool:
        """Read a batch of what is awaited of an account; False when nothing was.

        Raises what the backend raises when the origin is lost, and what `apply` raises.
        """
        async with self._places.entered(backend.host):
            await self.room.enter(account_id)
            messages = await self._text_index.awaited(account_id, AT_ONCE)
            spent = await self.read(account_id, backend, messages, apply)
        await asyncio.sleep(spent)
        return bool(messages)

    async def read(
        self, account_id: AccountId, backend: MailBackend, messages: Sequence[Message], apply: Apply
    ) -> float:
        """Read these messages, and their previews where they have none; how many seconds of work it was."""
        await self.room.enter(account_id)
        return sum([await self._read(account_id, backend, batch, apply) for batch in _batches(messages)])

    async def _read(self, account_id: AccountId, backend: MailBackend, batch: Sequence[Message], apply: Apply) -> float:
        wanted = await self._wanted(account_id, batch)
        contents = await _contents(backend, wanted)
        large = await self._large_texts(account_id, backend, [message for message in batch if message not in wanted])
        known = contents.keys() | large.keys()
        unread = [
            message
            for message in batch
            if message.uid not in known and message.preview is None and message.blob is None
        ]
        previews = await _previews(backend, unread)
        async with self._turn:
            started = time.monotonic()
            texts = large | await self._texts(account_id, contents)
            digests = {uid: content_digest(content) for uid, content in contents.items()}
            for piece in _pieces(batch, texts, previews, digests, self._limits.message_bytes):
                await apply(piece)
                taken = sum(item.text.size_bytes for item in piece.texted if item.text is not None)
                await self.room.grew(account_id, taken)
            return time.monotonic() - started

    async def _wanted(self, account_id: AccountId, batch: Sequence[Message]) -> list[Message]:
        """Those that may be within the limits: when the account is full, what is newer than something it holds."""
        above_ms = await self.room.above_ms(account_id)
        return [
            message
            for message in batch
            if message.size_bytes <= self._most_bytes(message) and message.received_at_ms > above_ms
        ]

    async def _large_texts(
        self, account_id: AccountId, backend: MailBackend, messages: Sequence[Message]
    ) -> dict[int, Searchable]:
        """The text of messages that are large for what is attached to them, by UID; read part by part."""
        found: dict[int, Searchable] = {}
        above_ms = await self.room.above_ms(account_id) if messages else NO_LIMIT
        for message in messages:
            if message.blob is None and message.received_at_ms > above_ms:
                structure = (await self._reader.messages.detail(account_id, message.id)).structure
                sections = [] if structure is None else _sections(structure, self._limits.message_bytes)
                parts = await _parts(backend, message, sections) if sections else None
                if structure is not None and parts is not None:
                    text = await self._parsed(account_id, parts, searchable_in_parts, structure, parts)
                    found |= {} if text is None else {message.uid: text}
        return found

    async def _texts(self, account_id: AccountId, contents: Mapping[int, bytes]) -> dict[int, Searchable]:
        """Texts by UID. Where one message is too complex, the others are read by themselves."""
        texts = await self._parsed(account_id, contents, searchable_in_all, contents)
        if texts is not None or len(contents) < 2:
            return texts or {}
        single = [await self._texts(account_id, {uid: content}) for uid, content in contents.items()]
        return {uid: text for item in single for uid, text in item.items()}

    async def _parsed(
        self,
        account_id: AccountId,
        contents: Mapping[Any, bytes],
        work: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """What `work` makes of these contents; None where they are too complex."""
        size_bytes = sum(map(len, contents.values()))
        try:
            return await self._parsers.run(f"text of {account_id}", size_bytes, work, *args, **kwargs)
        except TooComplex:
            return None

    def _most_bytes(self, message: Message) -> int:
        """What lies here is read whole for the sake of its text."""
        if not self._limits.message_bytes:
            return -1
        return self._limits.whole_bytes if message.blob is None else LOCAL_BYTES


class TextIndexer:
    """Reads the text of mail whose bytes lie here; `run` it. Safe to run in several processes."""

    def __init__(
        self, index: Index, reader: MailReader, text_index: TextIndex, backends: Backends, texts: TextReader
    ) -> None:
        self._index = index
        self._reader = reader
        self._text_index = text_index
        self._backends = backends
        self._texts = texts

    async def run(self) -> None:
        """Look for what is new every second, until cancelled."""
        await forever("texts", self._fill_and_rest)

    async def _fill_and_rest(self) -> None:
        await self.fill()
        await asyncio.sleep(LOOK_SECONDS)

    async def fill(self) -> None:
        """Read all that is awaited now."""
        await self._texts.room.hold()
        while accounts := await self._text_index.accounts_to_fill(ACCOUNTS_AT_ONCE):
            for account_id in accounts:
                await self._fill(account_id)

    async def _fill(self, account_id: AccountId) -> None:
        try:
            backend = await self._backends.of(account_id)
            mirror = Mirror(account_id, self._index, self._reader, backend)
            await self._texts.read_some(account_id, backend, mirror.apply)
        except Unavailable:
            raise
        except GatewayError as error:  # the account is gone, say
            log.info("texts_not_read", account_id=account_id, error=error.code)
            await asyncio.sleep(LOOK_SECONDS)


def _batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Messages of one mailbox each, of up to READ_BYTES together."""
    for _, group in groupby(messages, key=lambda one: one.mailbox_id):
        batch: list[Message] = []
        size = 0
        for message in group:
            if batch and size + message.size_bytes > READ_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(message)
            size += message.size_bytes
        yield batch


async def _contents(backend: MailBackend, messages: Sequence[Message]) -> Mapping[int, bytes]:
    """Bytes by UID. What cannot be read is left away; one message that cannot takes no others along."""
    try:
        return await backend.contents(messages)
    except (ServerRefused, ServerProtocolError, MailboxNotFound, BlobMissing):
        if len(messages) == 1:
            return {}
        found: dict[int, bytes] = {}
        for message in messages:
            found.update(await _contents(backend, [message]))
        return found


def _sections(structure: BodyPart, limit_bytes: int) -> list[str]:
    """The sections that tell a message's text; none where there are too many, or too large ones."""
    places = places_of(structure)
    read = [place.part for place in places if place.is_searched]
    if len(places) > LARGE_PARTS or sum(item.size_bytes for item in read) > limit_bytes:
        return []
    return [*(place.header_section for place in places), *(item.section for item in read)]


async def _parts(backend: MailBackend, message: Message, sections: Sequence[str]) -> Mapping[str, bytes] | None:
    try:
        return await backend.read_parts(message, sections)
    except (ServerRefused, ServerProtocolError, MailboxNotFound, MessageNotFound, PartNotFound):
        return None


async def previews_of(backend: MailBackend, messages: Sequence[Message]) -> dict[int, str]:
    """Previews by UID of messages of one mailbox; one that cannot be had is empty, so that it is not asked for again.

    One message that the server refuses takes no other preview along. Raises what the backend raises where the server
    refuses REFUSED_IN_A_ROW of them one after the other: then it is the mailbox.
    """
    if not messages:
        return {}
    try:
        return {message.uid: "" for message in messages} | dict(await backend.previews(messages))
    except (ServerRefused, ServerProtocolError):
        if len(messages) == 1:
            raise
    return await _single_previews(backend, messages)


async def _single_previews(backend: MailBackend, messages: Sequence[Message]) -> dict[int, str]:
    found: dict[int, str] = {}
    refused = 0
    for message in messages:
        try:
            found |= await previews_of(backend, [message])
            refused = 0
        except (ServerRefused, ServerProtocolError) as error:
            refused += 1
            if refused >= min(REFUSED_IN_A_ROW, len(messages)):
                raise
            log.warning("preview_refused", account_id=message.account_id, uid=message.uid, error=error.code)
            found[message.uid] = ""
    return found


async def _previews(backend: MailBackend, messages: Sequence[Message]) -> Mapping[int, str]:
    """Previews of what is left out of the index; one that cannot be had is empty, so that it is not asked for again."""
    try:
        return await previews_of(backend, messages)
    except (ServerRefused, ServerProtocolError, MailboxNotFound) as error:
        log.warning("previews_failed", account_id=messages[0].account_id, error=error.code)
        return {message.uid: "" for message in messages}


def _pieces(
    batch: Sequence[Message],
    texts: Mapping[int, Searchable],
    previews: Mapping[int, str],
    digests: Mapping[int, str],
    limit_bytes: int,
) -> Iterator[Delta]:
    """What to write, WRITTEN_BYTES of text in each."""
    texted: list[TextExtracted] = []
    previewed: list[Previewed] = []
    size = 0
    for message in batch:
        place, text = Location(message.mailbox_id, message.uid), texts.get(message.uid)
        preview = preview_of(text.shown) if text is not None else previews.get(message.uid, "")
        if not message.preview and preview != message.preview:
            previewed.append(Previewed(place, preview))
        kept = text if text is not None and text.size_bytes <= limit_bytes else None
        texted.append(TextExtracted(place, kept, digests.get(message.uid)))
        size += 0 if kept is None else kept.size_bytes
        if size >= WRITTEN_BYTES:
            yield Delta(previewed=tuple(previewed), texted=tuple(texted))
            texted, previewed, size = [], [], 0
    if texted:
        yield Delta(previewed=tuple(previewed), texted=tuple(texted))
