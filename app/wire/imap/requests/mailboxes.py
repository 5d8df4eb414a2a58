"""CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE (RFC 9051 §6.3.4-6.3.8, RFC 6154)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, Readers


@dataclass(frozen=True, slots=True)
class Create(Command):
    """CREATE. `use` has special uses such as `\\Sent` (RFC 6154)."""

    mailbox: str
    use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename(Command):
    mailbox: str
    new_name: str


@dataclass(frozen=True, slots=True)
class Subscribe(Command):
    mailbox: str
    is_subscribed: bool = True


def _create(reader: ArgumentReader) -> Create:
    mailbox = reader.mailbox()
    use: tuple[str, ...] = ()
    if reader.skip(b" ("):
        if reader.word() != "USE":
            reader.fail("Unknown parameter")
        reader.space()
        use = tuple(reader.items_or_empty(reader.flag))
        reader.expect(b")")
    return Create(mailbox, use)


def _rename(reader: ArgumentReader) -> Rename:
    mailbox = reader.mailbox()
    reader.space()
    return Rename(mailbox, reader.mailbox())


READERS: Readers = {
    "CREATE": _create,
    "DELETE": lambda reader: Delete(reader.mailbox()),
    "RENAME": _rename,
    "SUBSCRIBE": lambda reader: Subscribe(reader.mailbox()),
    "UNSUBSCRIBE": lambda reader: Subscribe(reader.mailbox(), is_subscribed=False),
}
