"""An account behind a MailBackend, with a mirror in memory in the place of the index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.errors import MailboxNotFound
from app.mail.backend import MailBackend
from app.mail.delta import Arrived, Location
from app.mail.types import AccountId, Flags, Mailbox, MailboxId, Message, MessageId, Role, ThreadId

from tests.harness import Harness

ACCOUNT = AccountId("acc_contract")
INVOICE = (
    b"From: =?utf-8?q?Ann_=C3=84?= <ann@elsewhere.test>\r\n"
    b"To: me@mail.test\r\n"
    b"Subject: buy 2* now * or 3*\r\n"
    b"Message-ID: <invoice@elsewhere.test>\r\n"
    b"References: <a@elsewhere.test> <b@elsewhere.test>\r\n"
    b"Date: Tue, 01 Jul 2025 10:00:00 +0200\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n'
    b"\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPay me (please) now.\r\n"
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=a.pdf\r\n\r\nJVBERi0xLjQK\r\n--b--\r\n"
)


@dataclass
class Mirror:
    """Mailboxes by id, with just as much of them as backends ask for."""

    known: dict[MailboxId, Mailbox] = field(default_factory=dict)

    async def mailbox(self, account_id: AccountId, mailbox_id: str) -> Mailbox:
        try:
            return self.known[MailboxId(mailbox_id)]
        except KeyError:
            raise MailboxNotFound from None

    async def mailboxes(self, account_id: AccountId) -> Sequence[Mailbox]:
        return list(self.known.values())


ROLES: Mapping[str, Role | None] = {
    "INBOX": Role.INBOX,
    "Sent": Role.SENT,
    "Drafts": Role.DRAFTS,
    "Trash": Role.TRASH,
    "Junk": Role.JUNK,
    "Archive": Role.ARCHIVE,
}


@dataclass
class MailAccount:
    """`roles`: by path, the mailboxes that it has at first. `refused_in_names` are taken in no mailbox's name."""

    backend: MailBackend
    mirror: Mirror
    roles: Mapping[str, Role | None] = field(default_factory=lambda: ROLES, kw_only=True)
    refused_in_names: frozenset[str] = field(default=frozenset(), kw_only=True)

    async def refresh(self) -> None:
        """Read the list of mailboxes anew."""
        self.mirror.known = {}
        for one in await self.backend.list_mailboxes():
            self.mirror.known[MailboxId(f"mbx_{one.path}")] = Mailbox(
                id=MailboxId(f"mbx_{one.path}"),
                account_id=ACCOUNT,
                path=one.path,
                role=one.role,
                uid_validity=one.uid_validity or 0,
                uid_next=one.uid_next or 0,
                highest_modseq=one.highest_modseq or 0,
                total=one.total or 0,
                unread=one.unread or 0,
                is_subscribed=one.is_subscribed,
                is_selectable=one.is_selectable,
                parent_id=None,
                origin_name=one.origin_name,
                delimiter=one.delimiter,
                is_complete=True,
            )

    async def mailbox(self, path: str) -> Mailbox:
        """The mailbox as it is now."""
        await self.refresh()
        return await self.mirror.mailbox(ACCOUNT, f"mbx_{path}")

    async def add(
        self, path: str, content: bytes, flags: Flags = frozenset(), received_at_ms: int | None = None
    ) -> Message:
        """Append a message and return it as the index would hold it."""
        mailbox = await self.mailbox(path)
        delta = (await self.backend.append(mailbox, pieces_of(content), len(content), flags, received_at_ms)).delta
        (arrived,) = delta.arrived
        return message_of(arrived)

    async def subjects(self, path: str) -> list[str]:
        """Subjects of the messages in a mailbox, oldest first."""
        newest = await self.backend.newest(await self.mailbox(path), 100)
        return [arrived.overview.subject for arrived in reversed(newest)]

    async def flags(self, message: Message) -> Flags:
        mailbox = await self.mirror.mailbox(ACCOUNT, message.mailbox_id)
        return (await self.backend.scan(mailbox))[message.uid].flags


def message_of(arrived: Arrived) -> Message:
    return Message(
        id=MessageId(f"msg_{arrived.mailbox_id}_{arrived.uid}"),
        account_id=ACCOUNT,
        mailbox_id=arrived.mailbox_id,
        uid=arrived.uid,
        modseq=arrived.modseq,
        version=1,
        flags=arrived.flags,
        received_at_ms=arrived.received_at_ms,
        size_bytes=arrived.size_bytes,
        thread_id=ThreadId("thr_1"),
        message_id_header=arrived.overview.message_id_header,
        preview=None,
        blob=None,
        summary=b"{}",
    )


def at(message: Message, location: Location) -> Message:
    """The same message in another place."""
    return replace(message, mailbox_id=location.mailbox_id, uid=location.uid)


def location_of(message: Message) -> Location:
    return Location(message.mailbox_id, message.uid)


async def pieces_of(content: bytes, size_bytes: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size_bytes):
        yield content[start : start + size_bytes]
        await asyncio.sleep(0)


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


@dataclass
class LocalMailAccount(MailAccount):
    """An account of our own store: its index is the origin, so ids are real ones."""

    harness: Harness
    account_id: AccountId

    async def refresh(self) -> None:
        self.mirror.known = {one.id: one for one in await self.harness.reader.mailboxes.mailboxes(self.account_id)}

    async def mailbox(self, path: str) -> Mailbox:
        await self.refresh()
        return next(one for one in self.mirror.known.values() if one.path == path)

    async def add(
        self, path: str, content: bytes, flags: Flags = frozenset(), received_at_ms: int | None = None
    ) -> Message:
        added = await MailAccount.add(self, path, content, flags, received_at_ms)
        return await self.harness.reader.messages.at(self.account_id, location_of(added))


def note(subject: str) -> bytes:
    return (
        f"From: a@b.test\r\nSubject: {subject}\r\nMessage-ID: <{subject}@b.test>\r\n\r\nText of {subject}.\r\n".encode()
    )
