"""Downloads message content: one section as a stream, several small sections, or small messages as a whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from app.backends.imap.connection import Exchange, LiteralStream
from app.backends.imap.fetched import fetched
from app.backends.imap.selectable import SelectableMailbox, check_validity
from app.backends.imap.session import ClientSession
from app.errors import MessageNotFound, PartNotFound, Unreachable
from app.mail.backend import WHOLE, ByteRange
from app.mime.body import part_at
from app.wire.imap import commands
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage, Section
from app.wire.imap.sets import SequenceSet

MAX_COUNT = 4_294_967_295
PIECE_BYTES = 256 * 1024


async def pieces(
    session: ClientSession, mailbox: SelectableMailbox, uid: int, section: str, span: ByteRange = WHOLE
) -> AsyncGenerator[bytes, None]:
    """A section's bytes in pieces of at most PIECE_BYTES. Raises MessageNotFound, PartNotFound."""
    is_empty = True
    async with aclosing(stream(session, mailbox.name, uid, BodySection(section, partial=_partial(span)))) as chunks:
        async for chunk in chunks:
            check_validity(session, mailbox)
            for start in range(0, len(chunk), PIECE_BYTES):
                is_empty = False
                yield chunk[start : start + PIECE_BYTES]
    if is_empty:
        await check_part(session, mailbox.name, uid, section)


def _partial(span: ByteRange) -> tuple[int, int] | None:
    if span == WHOLE:
        return None
    count = MAX_COUNT - span.start if span.stop is None else span.stop - span.start
    return span.start, count


async def stream(session: ClientSession, name: str, uid: int, section: BodySection) -> AsyncGenerator[bytes, None]:
    """One section's bytes as they arrive, buffering at most about 0.5 MiB.

    Raises MessageNotFound, PartNotFound. If the caller stops early, the connection is closed.
    """
    was_selected = session.is_in(name)
    try:
        async with aclosing(_stream_once(session, name, uid, section)) as chunks:
            async for chunk in chunks:
                yield chunk
    except MessageNotFound:
        if not was_selected:
            raise
        session.selected = None
        async with aclosing(_stream_once(session, name, uid, section)) as chunks:
            async for chunk in chunks:
                yield chunk


async def _stream_once(
    session: ClientSession, name: str, uid: int, section: BodySection
) -> AsyncGenerator[bytes, None]:
    sink = LiteralStream(session.protocol.pause_reading, session.protocol.resume_reading)
    command = commands.fetch(SequenceSet.of([uid]), ["UID", section])
    exchange = Exchange(command, session.protocol.new_tag(), sink=sink)
    select = None if session.is_in(name) else await session.begin_select(name)
    await session.protocol.submit(exchange)
    try:
        if select is not None:
            await session.end_select(name, select)
        async for chunk in sink:
            yield chunk
        completion = (await session.protocol.settle(exchange)).check()
    finally:
        if not exchange.is_done:
            session.protocol.drop(Unreachable("A download was aborted"))
        sink.release()
    if not sink.is_started:
        yield _inline_section(await fetched(completion), uid)


def _inline_section(messages: dict[int, FetchedMessage], uid: int) -> bytes:
    message = messages.get(uid)
    if message is None:
        raise MessageNotFound
    section: Section = next(iter(message.sections.values()), None)
    if not isinstance(section, bytes):
        raise PartNotFound
    return section


async def parts(
    session: ClientSession, mailbox: SelectableMailbox, uid: int, sections: Sequence[str]
) -> dict[str, bytes]:
    """Section → bytes, in one round trip. Raises MessageNotFound, PartNotFound."""
    wanted = [BodySection(section) for section in sections]
    messages = await session.fetch(mailbox.name, SequenceSet.of([uid]), ("UID", *wanted))
    check_validity(session, mailbox)
    if uid not in messages:
        raise MessageNotFound
    contents = _named(messages[uid].sections, sections)
    for section in [section for section, content in contents.items() if not content]:
        await check_part(session, mailbox.name, uid, section)
    return contents


def _named(fetched_sections: Mapping[str, object], sections: Sequence[str]) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    for section in sections:
        content = fetched_sections.get(section.upper())
        if not isinstance(content, bytes):
            raise PartNotFound
        parts[section] = content
    return parts


async def contents(session: ClientSession, mailbox: SelectableMailbox, uids: Sequence[int]) -> dict[int, bytes]:
    """UID → bytes of whole messages, without those that do not exist."""
    messages = await session.fetch(mailbox.name, SequenceSet.of(uids), ("UID", BodySection("")))
    check_validity(session, mailbox)
    first = {uid: next(iter(message.sections.values()), None) for uid, message in messages.items()}
    return {uid: content for uid, content in first.items() if isinstance(content, bytes)}


async def check_part(session: ClientSession, name: str, uid: int, section: str) -> None:
    """Check that an empty section exists. Raises PartNotFound unless the message has this part.

    Dovecot 2.3 returns an empty string instead of NIL for a part that does not exist.
    """
    if section and section[0].isdigit():
        messages = await session.fetch(name, SequenceSet.of([uid]), ("UID", "BODYSTRUCTURE"), is_tolerant=True)
        structure = messages[uid].structure if uid in messages else None
        if structure is None or part_at(structure, section) is None:
            raise PartNotFound
