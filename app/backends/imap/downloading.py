"""Downloading one section of a message: its bytes as they arrive, however many they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.backends.imap.connection import Exchange, LiteralStream
from app.backends.imap.fetched import fetched
from app.backends.imap.session import Session
from app.errors import MessageNotFound, PartNotFound, Unreachable
from app.wire.imap import commands
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage, Section
from app.wire.imap.sets import SequenceSet


async def stream(session: Session, name: str, uid: int, section: BodySection) -> AsyncGenerator[bytes, None]:
    """One section's bytes as they arrive, held to about 0.5 MiB whatever the size.

    Raises MessageNotFound, PartNotFound. Whoever stops early leaves the connection to be dropped.
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


async def _stream_once(session: Session, name: str, uid: int, section: BodySection) -> AsyncGenerator[bytes, None]:
    sink = LiteralStream(session.protocol.pause_reading, session.protocol.resume_reading)
    asked = commands.fetch(SequenceSet.of([uid]), ["UID", section])
    exchange = Exchange(asked, session.protocol.new_tag(), sink=sink)
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
            session.protocol.drop(Unreachable("A download was given up"))
        sink.release()
    if not sink.is_started:
        yield _inline_section(fetched(completion), uid)


def _inline_section(messages: dict[int, FetchedMessage], uid: int) -> bytes:
    message = messages.get(uid)
    if message is None:
        raise MessageNotFound
    section: Section = next(iter(message.sections.values()), None)
    if not isinstance(section, bytes):
        raise PartNotFound
    return section
