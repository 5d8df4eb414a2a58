"""Appends messages to mailboxes, and finds their UIDs if the server does not report them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from app.backends.imap.fetched import uid_set
from app.backends.imap.selectable import check_target
from app.backends.imap.session import ClientSession
from app.errors import ServerProtocolError, ServerRefused, TooLarge
from app.mail.types import Flags
from app.wire.imap import commands

MAX_HEADER_BYTES = 256 * 1024


async def append(
    session: ClientSession,
    target: str,
    content: AsyncIterator[bytes],
    size_bytes: int,
    flags: Flags,
    received_at_ms: int | None,
) -> int:
    """Append a message and return its UID. Raises MailboxNotFound, TooLarge, ServerRefused."""
    _check_limit(session, size_bytes)
    has_uidplus = session.has("UIDPLUS") or session.has("IMAP4REV2")
    before = 0 if has_uidplus else (await session.select(target))[0].uid_next
    has_utf8_headers = False
    if session.has("UTF8=ACCEPT"):
        has_utf8_headers, content = await _check_header(content)
    command = commands.append(
        target,
        size_bytes,
        flags=sorted(flags),
        received_at_ms=received_at_ms,
        utf8_headers=has_utf8_headers,
        is_utf8=session.is_utf8,
    )
    completion = check_target(await session.upload(command, content))
    for code in session.codes(completion, "APPENDUID"):
        with suppress(ServerProtocolError):  # an invalid UID is ignored: the message is searched for
            (uid,) = uid_set(code.appended.uids[-1:]).numbers(1)
            return uid
    return await _find_appended(session, target, before, size_bytes)


async def _check_header(content: AsyncIterator[bytes]) -> tuple[bool, AsyncIterator[bytes]]:
    """Whether the header contains non-ASCII bytes, and the complete content.

    A server with UTF8=ACCEPT refuses non-ASCII headers unless the command announces them (RFC 6855 §4).
    """
    start = b""
    async for piece in content:
        start += piece
        if b"\r\n\r\n" in start or len(start) > MAX_HEADER_BYTES:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield start
        async for piece in content:
            yield piece

    return not start.partition(b"\r\n\r\n")[0].isascii(), whole()


def _check_limit(session: ClientSession, size_bytes: int) -> None:
    for name in session.capabilities:
        limit = name.removeprefix("APPENDLIMIT=")
        if limit != name and limit.isascii() and limit.isdigit() and size_bytes > int(limit):
            raise TooLarge(f"The mail server accepts messages of at most {limit} bytes")


async def _find_appended(session: ClientSession, target: str, before: int, size_bytes: int) -> int:
    """The UID of the newest message since then with this size, or of the only new message."""
    messages = await session.fetch_since(target, before, ("UID", "RFC822.SIZE"))
    new = [uid for uid in messages if uid >= before]
    uids = [uid for uid in new if messages[uid].size_bytes == size_bytes]
    if not (uids or len(new) == 1):  # the reported size may be wrong
        raise ServerRefused("The mail server accepted the message but does not list it")
    return max(uids or new)
