"""Fills the full-text index: reads messages, extracts their text, and writes it in small transactions."""

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
"""Message bytes in memory at a time, unless a single message is larger."""
WRITTEN_BYTES = 64 * 1024
"""Text of one transaction: about 20 ms of writing."""
LOCAL_BYTES = 16 * 1024 * 1024
"""Largest stored message whose text is read."""
REFUSED_IN_A_ROW = 10
"""After this many refused previews in a row, no further previews of the mailbox are requested."""
LARGE_PARTS = 50
"""Most parts of a message that is read part by part."""
ACCOUNTS_READ_AT_ONCE = 4
READ_AT_ONE_HOST = 2
PATIENCE_SECONDS = 20.0
"""A batch that takes longer is waiting for its server, and frees its slot for an account on another host."""
ACCOUNTS_AT_ONCE = 20
LOOK_SECONDS = 1.0

P = ParamSpec("P")
T = TypeVar("T")

Apply = Callable[[Delta], Awaitable[object]]


class TextReader:
    """Indexes messages within the limits: the newest of an account when there are too many.

    A few accounts are read in the background at a time, fewer of one host. One batch is parsed and written at a time;
    the account then pauses for as long as that took.
    """

    def __init__(
        self, reader: MailReader, text_index: TextIndex, limits: TextLimits, parsers: Parsers = IN_THREADS
    ) -> None:
        self._parsers = parsers
        self._reader = reader
        self._text_index = text_index
        self._limits = limits
        self.quota = TextIndexQuota(text_index, limits)
        self._limiter = Limiter(ACCOUNTS_READ_AT_ONCE, READ_AT_ONE_HOST, PATIENCE_SECONDS)
        self._turn = asyncio.Lock()

    async def read_some(self, account_id: AccountId, backend: MailBackend, apply: Apply) -> bool:
        """Read one batch of an account's unindexed messages; False when there are none.

        Raises what the backend raises when the connection is lost, and what `apply` raises.
        """
        async with self._limiter.entered(backend.host):
            await self.quota.enter(account_id)
            messages = await self._text_index.awaited(account_id, AT_ONCE)
            spent = await self.read(account_id, backend, messages, apply)
        await asyncio.sleep(spent)
        return bool(messages)

    async def read(
        self, account_id: AccountId, backend: MailBackend, messages: Sequence[Message], apply: Apply
    ) -> float:
        """Index these messages and read missing previews. Return the seconds of work."""
        await self.quota.enter(account_id)
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
                await self.quota.grew(account_id, taken)
            return time.monotonic() - started

    async def _wanted(self, account_id: AccountId, batch: Sequence[Message]) -> list[Message]:
        """Messages within the limits: when the account is full, those newer than its oldest indexed text."""
        above_ms = await self.quota.above_ms(account_id)
        return [
            message
            for message in batch
            if message.size_bytes <= self._most_bytes(message) and message.received_at_ms > above_ms
        ]

    async def _large_texts(
        self, account_id: AccountId, backend: MailBackend, messages: Sequence[Message]
    ) -> dict[int, Searchable]:
        """Text by UID of messages that are large because of attachments, read part by part."""
        texts: dict[int, Searchable] = {}
        above_ms = await self.quota.above_ms(account_id) if messages else NO_LIMIT
        for message in messages:
            if message.blob is None and message.received_at_ms > above_ms:
                structure = (await self._reader.messages.detail(account_id, message.id)).structure
                sections = [] if structure is None else _sections(structure, self._limits.message_bytes)
                parts = await _parts(backend, message, sections) if sections else None
                if structure is not None and parts is not None:
                    text = await self._parsed(account_id, parts, searchable_in_parts, structure, parts)
                    texts |= {} if text is None else {message.uid: text}
        return texts

    async def _texts(self, account_id: AccountId, contents: Mapping[int, bytes]) -> dict[int, Searchable]:
        """Texts by UID. If the batch is too complex, each message is parsed by itself."""
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
        """The result of `work` on these contents, or None when they are too complex."""
        size_bytes = sum(map(len, contents.values()))
        try:
            return await self._parsers.run(f"text of {account_id}", size_bytes, work, *args, **kwargs)
        except TooComplex:
            return None

    def _most_bytes(self, message: Message) -> int:
        """Largest message that is read whole: a stored message may be larger than one on a mail server."""
        if not self._limits.message_bytes:
            return -1
        return self._limits.whole_bytes if message.blob is None else LOCAL_BYTES


class TextIndexer:
    """Indexes the text of stored mail. Call `run`. Safe to run in several processes."""

    def __init__(
        self, index: Index, reader: MailReader, text_index: TextIndex, backends: Backends, texts: TextReader
    ) -> None:
        self._index = index
        self._reader = reader
        self._text_index = text_index
        self._backends = backends
        self._texts = texts

    async def run(self) -> None:
        """Index new messages every second, until cancelled."""
        await forever("texts", self._fill_and_rest)

    async def _fill_and_rest(self) -> None:
        await self.fill()
        await asyncio.sleep(LOOK_SECONDS)

    async def fill(self) -> None:
        """Index all messages that are not indexed yet."""
        await self._texts.quota.hold()
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
        except GatewayError as error:  # for example, the account was deleted
            log.info("texts_not_read", account_id=account_id, error=error.code)
            await asyncio.sleep(LOOK_SECONDS)


def _batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Batches of messages of one mailbox, of up to READ_BYTES together."""
    for _, group in groupby(messages, key=lambda message: message.mailbox_id):
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
    """Bytes by UID, without messages that cannot be read: if a batch fails, each is read by itself."""
    try:
        return await backend.contents(messages)
    except (ServerRefused, ServerProtocolError, MailboxNotFound, BlobMissing):
        if len(messages) == 1:
            return {}
        contents: dict[int, bytes] = {}
        for message in messages:
            contents.update(await _contents(backend, [message]))
        return contents


def _sections(structure: BodyPart, limit_bytes: int) -> list[str]:
    """Sections that hold a message's text; none when they are too many or too large."""
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
    """Previews by UID of messages of one mailbox; "" when there is none, so that it is not asked for again.

    A refused message does not affect the others. Raises what the backend raises when the server refuses
    REFUSED_IN_A_ROW in a row: the cause is then the mailbox.
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
    previews: dict[int, str] = {}
    refused = 0
    for message in messages:
        try:
            previews |= await previews_of(backend, [message])
            refused = 0
        except (ServerRefused, ServerProtocolError) as error:
            refused += 1
            if refused >= min(REFUSED_IN_A_ROW, len(messages)):
                raise
            log.warning("preview_refused", account_id=message.account_id, uid=message.uid, error=error.code)
            previews[message.uid] = ""
    return previews


async def _previews(backend: MailBackend, messages: Sequence[Message]) -> Mapping[int, str]:
    """Previews of messages that are not indexed; "" when there is none, so that it is not asked for again."""
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
    """Deltas to write, with about WRITTEN_BYTES of text each."""
    texted: list[TextExtracted] = []
    previewed: list[Previewed] = []
    size = 0
    for message in batch:
        location, text = Location(message.mailbox_id, message.uid), texts.get(message.uid)
        preview = preview_of(text.shown) if text is not None else previews.get(message.uid, "")
        if not message.preview and preview != message.preview:
            previewed.append(Previewed(location, preview))
        indexed = text if text is not None and text.size_bytes <= limit_bytes else None
        texted.append(TextExtracted(location, indexed, digests.get(message.uid)))
        size += 0 if indexed is None else indexed.size_bytes
        if size >= WRITTEN_BYTES:
            yield Delta(previewed=tuple(previewed), texted=tuple(texted))
            texted, previewed, size = [], [], 0
    if texted:
        yield Delta(previewed=tuple(previewed), texted=tuple(texted))
