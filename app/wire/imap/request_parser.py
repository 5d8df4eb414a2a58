"""From a framed command to its type: the readers of each (RFC 9051 §6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from app.wire.imap.arguments import ArgumentReader, CommandSyntaxError, UnsupportedCharset
from app.wire.imap.commands import KnownState
from app.wire.imap.framing import Part
from app.wire.imap.mailbox_request import read_list, read_lsub, read_notify, read_status
from app.wire.imap.message_request import read_append, read_copy, read_fetch, read_messages, read_store
from app.wire.imap.requests import (
    Authenticate,
    Command,
    Compress,
    Create,
    Delete,
    Enable,
    GetQuota,
    GetQuotaRoot,
    Identify,
    Login,
    Rename,
    Request,
    Resync,
    Select,
    Simple,
    Subscribe,
    UidExpunge,
)
from app.wire.imap.search_request import read_search

MAX_ID_FIELDS = 30

_TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]{1,100}(?= |\Z)")
_BASE64 = re.compile(rb"=(?= |\Z)|[A-Za-z0-9+/]*={0,2}")


def parse_command(parts: Sequence[Part], *, is_utf8: bool = False) -> Request:
    """The command of `ReceivedCommand.parts`. `is_utf8` tells that UTF8=ACCEPT or IMAP4rev2 is in force.

    Raises CommandSyntaxError (to be answered with BAD) or UnsupportedCharset, each with the tag.
    """
    reader = ArgumentReader(parts, is_utf8=is_utf8)
    tag = reader.match(_TAG, "A tag")[0].decode("ascii")
    try:
        reader.space()
        command = _read_command(reader)
        reader.end()
    except (CommandSyntaxError, UnsupportedCharset) as error:
        error.tag = tag
        raise
    return Request(tag, command)


def append_target(parts: Sequence[Part], *, is_utf8: bool = False) -> str:
    """The mailbox of an APPEND whose first message is still to come, so that it can be refused in time.

    Raises CommandSyntaxError, with the tag, for anything else.
    """
    reader = ArgumentReader(parts, is_utf8=is_utf8)
    tag = reader.match(_TAG, "A tag")[0].decode("ascii")
    try:
        reader.space()
        if reader.word() != "APPEND":
            reader.fail("An APPEND expected")
        reader.space()
        return reader.mailbox()
    except CommandSyntaxError as error:
        error.tag = tag
        raise


def _read_command(reader: ArgumentReader) -> Command:
    name = reader.word()
    if name == "UID":
        reader.space()
        name = f"UID {reader.word()}"
    if name in _SIMPLE:
        return Simple(name)
    read = _READERS.get(name)
    if read is None:
        reader.fail("An unknown command")
    if name != "ENABLE":
        reader.space()
    return read(reader)


def _login(reader: ArgumentReader) -> Login:
    username = reader.text()
    reader.space()
    return Login(username, reader.text())


def _authenticate(reader: ArgumentReader) -> Authenticate:
    mechanism = reader.word()
    if not reader.skip(b" "):
        return Authenticate(mechanism)
    initial = reader.match(_BASE64, "Base64")[0]
    return Authenticate(mechanism, b"" if initial == b"=" else initial)


def _enable(reader: ArgumentReader) -> Enable:
    names = []
    while reader.skip(b" "):
        names.append(reader.word())
    if not names:
        reader.fail("A capability expected")
    return Enable(tuple(names))


def _identify(reader: ArgumentReader) -> Identify:
    if reader.skip_word("NIL"):
        return Identify(())
    texts = reader.items_or_empty(reader.nstring)
    names, values = texts[::2], texts[1::2]
    if len(names) != len(values) or len(names) > MAX_ID_FIELDS:
        reader.fail("ID takes at most 30 names, each with a value")
    return Identify(tuple(((name or "").lower(), value) for name, value in zip(names, values, strict=True)))


def _select(reader: ArgumentReader, *, is_read_only: bool = False) -> Select:
    mailbox = reader.mailbox()
    condstore, resync = False, None
    if reader.skip(b" "):
        for parameter in reader.items(lambda: _select_parameter(reader)):
            condstore = True
            resync = parameter or resync
    return Select(mailbox, is_read_only, condstore, resync)


def _select_parameter(reader: ArgumentReader) -> Resync | None:
    """None for CONDSTORE, which QRESYNC implies."""
    name = reader.word()
    if name == "QRESYNC":
        reader.space()
        return _resync(reader)
    if name != "CONDSTORE":
        reader.fail("An unknown parameter")
    return None


def _resync(reader: ArgumentReader) -> Resync:
    reader.expect(b"(")
    validity = reader.number()
    reader.space()
    modseq = reader.number()
    known, matched = None, None
    if reader.skip(b" "):
        if not reader.next_is(b"("):
            known = reader.sequence_set()
        if known is None or reader.skip(b" "):
            reader.expect(b"(")
            sequences = reader.sequence_set()
            reader.space()
            matched = (sequences, reader.sequence_set())
            reader.expect(b")")
    reader.expect(b")")
    return Resync(KnownState(validity, modseq, known), matched)


def _create(reader: ArgumentReader) -> Create:
    mailbox = reader.mailbox()
    use: tuple[str, ...] = ()
    if reader.skip(b" ("):
        if reader.word() != "USE":
            reader.fail("An unknown parameter")
        reader.space()
        use = tuple(reader.items_or_empty(reader.flag))
        reader.expect(b")")
    return Create(mailbox, use)


def _rename(reader: ArgumentReader) -> Rename:
    mailbox = reader.mailbox()
    reader.space()
    return Rename(mailbox, reader.mailbox())


_SIMPLE = frozenset(
    {"CAPABILITY", "NOOP", "LOGOUT", "STARTTLS", "CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "IDLE", "NAMESPACE"}
)
_READERS: dict[str, Callable[[ArgumentReader], Command]] = {
    "LOGIN": _login,
    "AUTHENTICATE": _authenticate,
    "ENABLE": _enable,
    "ID": _identify,
    "COMPRESS": lambda reader: Compress(reader.word()),
    "SELECT": _select,
    "EXAMINE": lambda reader: _select(reader, is_read_only=True),
    "CREATE": _create,
    "DELETE": lambda reader: Delete(reader.mailbox()),
    "RENAME": _rename,
    "SUBSCRIBE": lambda reader: Subscribe(reader.mailbox()),
    "UNSUBSCRIBE": lambda reader: Subscribe(reader.mailbox(), is_subscribed=False),
    "LIST": read_list,
    "LSUB": read_lsub,
    "STATUS": read_status,
    "NOTIFY": read_notify,
    "GETQUOTAROOT": lambda reader: GetQuotaRoot(reader.mailbox()),
    "GETQUOTA": lambda reader: GetQuota(reader.text()),
    "APPEND": read_append,
    "SEARCH": read_search,
    "UID SEARCH": lambda reader: read_search(reader, is_uid=True),
    "FETCH": read_fetch,
    "UID FETCH": lambda reader: read_fetch(reader, is_uid=True),
    "STORE": read_store,
    "UID STORE": lambda reader: read_store(reader, is_uid=True),
    "COPY": lambda reader: read_copy(reader, is_uid=False, is_move=False),
    "UID COPY": lambda reader: read_copy(reader, is_uid=True, is_move=False),
    "MOVE": lambda reader: read_copy(reader, is_uid=False, is_move=True),
    "UID MOVE": lambda reader: read_copy(reader, is_uid=True, is_move=True),
    "UID EXPUNGE": lambda reader: UidExpunge(read_messages(reader)),
}
