"""An account on a real Dovecot: restarts, other clients, every way to watch, large mail, small memory."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.backends.imap.session import ClientSession
from app.backends.imap.watching import ImapWatch, sweeping
from app.backends.imap.watching import inbox as inbox_module
from app.errors import MailboxNotFound, Unreachable
from app.mail.backend import Signal, SyncMode
from app.mail.types import SEEN, Mailbox, ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.contract.mail_account import ACCOUNT, MailAccount, Mirror, joined, message_of
from tests.servers.courier import Courier, CourierUser
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.tls import TlsFiles

GUARD = NetGuard.of(["127.0.0.0/8"])
NOTE = b"From: ann@elsewhere.test\r\nSubject: note\r\nMessage-ID: <note@elsewhere.test>\r\n\r\nText.\r\n"


def origin_of(server: Dovecot | Courier, user: DovecotUser | CourierUser, tls: TlsFiles) -> Origin:
    login = ServerLogin(server.host, server.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
    return Origin(login, GUARD, tls.client_context(), Hosts())


@asynccontextmanager
async def account_of(origin: Origin) -> AsyncIterator[MailAccount]:
    mirror = Mirror()
    backend = ImapBackend(ACCOUNT, origin, mirror)
    try:
        yield MailAccount(backend, mirror)
    finally:
        await backend.close()


async def until_signalled(signals: AsyncIterator[Signal], name: str) -> None:
    async with asyncio.timeout(20):
        async for signal in signals:
            if not signal.origin_names or name in signal.origin_names:
                return


async def test_a_restart_of_the_server_is_told_and_then_nothing_is_missed(dovecot: Dovecot, tls: TlsFiles) -> None:
    user = dovecot.add_user()
    async with account_of(origin_of(dovecot, user, tls)) as account:
        message = await account.add("INBOX", NOTE)
        before = await account.mailbox("INBOX")
        watch = await account.backend.watch([before])
        try:
            await asyncio.to_thread(dovecot.stop)
            with pytest.raises(Unreachable):
                [signal async for signal in watch.signals()]
            with pytest.raises(Unreachable):
                await account.backend.list_mailboxes()
        finally:
            await asyncio.to_thread(dovecot.start)
        await asyncio.to_thread(dovecot.deliver, NOTE, user.name)

        changes = await account.backend.changes(before)

        assert [uid for uid in changes.flags if uid > message.uid] == [message.uid + 1]
        assert await joined(account.backend.read_raw(message)) == NOTE


async def test_a_connection_that_the_server_closed_meanwhile_costs_no_caller_an_error(
    dovecot: Dovecot, tls: TlsFiles
) -> None:
    user = dovecot.add_user()
    async with account_of(origin_of(dovecot, user, tls)) as account:
        message = await account.add("INBOX", NOTE)
        await asyncio.to_thread(dovecot.doveadm, "kick", user.name)

        assert await account.backend.read_parts(message, ["1"]) == {"1": b"Text.\r\n"}


async def test_what_other_clients_did_is_told_by_the_changes(dovecot: Dovecot, tls: TlsFiles) -> None:
    user = dovecot.add_user()
    async with account_of(origin_of(dovecot, user, tls)) as account:
        kept, gone = await account.add("INBOX", NOTE), await account.add("INBOX", NOTE)
        before = await account.mailbox("INBOX")
        for arguments in (
            ["flags", "add", "-u", user.name, "\\Seen", "mailbox", "INBOX", "uid", str(kept.uid)],
            ["expunge", "-u", user.name, "mailbox", "INBOX", "uid", str(gone.uid)],
        ):
            await asyncio.to_thread(dovecot.doveadm, *arguments)

        changes = await account.backend.changes(before)

        assert changes.flags[kept.uid].flags == frozenset({SEEN})
        assert changes.vanished == {gone.uid}


WAYS = {
    SyncMode.NOTIFY: {"NOTIFY", "IDLE", "LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE", "CONDSTORE"},
    SyncMode.IDLE: {"IDLE", "LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE", "CONDSTORE"},
    SyncMode.SWEEP: {"IDLE"},
    SyncMode.POLL: set[str](),
}


async def watch_by(origin: Origin, mode: SyncMode, mailboxes: Sequence[Mailbox]) -> ImapWatch:
    async def open_session() -> ClientSession:
        session = await origin.open()
        session.protocol.offered &= {"IMAP4REV1", *WAYS[mode]}
        return session

    watch = await ImapWatch.start(await open_session(), mailboxes, open_second=open_session)
    assert watch.mode is mode
    return watch


async def test_what_was_in_a_mailbox_that_another_client_renamed_is_there_no_more(
    courier: Courier, tls: TlsFiles
) -> None:
    """Courier goes on showing a mailbox that is selected, though it has another name by now."""
    origin = origin_of(courier, courier.add_user(), tls)
    async with account_of(origin) as account, account_of(origin) as other:
        await account.backend.create_mailbox("Work")
        message = await account.add("Work", NOTE)
        work = await account.mailbox("Work")
        assert list(await account.backend.present(work, [message.uid])) == [message.uid]

        await other.backend.rename_mailbox(await other.mailbox("Work"), "Office")

        with pytest.raises(MailboxNotFound):
            await account.backend.present(work, [message.uid])


@pytest.mark.parametrize("mode", list(WAYS))
@pytest.mark.parametrize("mailbox", ["INBOX", "Archive"])
async def test_each_way_of_watching_hears_of_every_mailbox(
    dovecot: Dovecot, tls: TlsFiles, monkeypatch: pytest.MonkeyPatch, mode: SyncMode, mailbox: str
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", (0.2, 0.2))
    monkeypatch.setattr(inbox_module, "POLL_SECONDS", 0.2)
    user = dovecot.add_user()
    origin = origin_of(dovecot, user, tls)
    async with account_of(origin) as account:
        await account.refresh()
        watch = await watch_by(origin, mode, list(account.mirror.known.values()))
        signals = watch.signals()
        try:
            await account.add(mailbox, NOTE)
            await until_signalled(signals, mailbox)
        finally:
            await watch.close()


async def test_a_large_message_passes_through_little_memory(dovecot: Dovecot, tls: TlsFiles) -> None:
    size_bytes = 100 * 1024 * 1024
    head = b"Subject: large\r\n\r\n"
    line = b"0123456789" * 7 + b"ab\r\n" + b"x"

    async def content() -> AsyncIterator[bytes]:
        yield head
        block = (line * 1000)[: 64 * 1024]
        for start in range(len(head), size_bytes, len(block)):
            yield block[: size_bytes - start]

    user = dovecot.add_user()
    async with account_of(origin_of(dovecot, user, tls)) as account:
        mailbox = await account.mailbox("INBOX")
        tracemalloc.start()
        try:
            delta = (await account.backend.append(mailbox, content(), size_bytes, frozenset(), None)).delta
            read = 0
            async for piece in account.backend.read_raw(message_of(delta.arrived[0])):
                read += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert read == size_bytes
        assert peak < 8 * 1024 * 1024


async def test_an_idle_account_costs_little_memory(dovecot: Dovecot, tls: TlsFiles) -> None:
    users = [dovecot.add_user() for _ in range(10)]
    context = tls.client_context()
    hosts = Hosts()
    watches: list[ImapWatch] = []
    opened = asyncio.Queue[ImapWatch]()
    tasks: list[asyncio.Task[None]] = []

    async def follow(user: DovecotUser) -> None:
        login = ServerLogin(dovecot.host, dovecot.imap_port, TransportSecurity.NONE, user.name, user.password)
        origin = Origin(login, GUARD, context, hosts)
        async with account_of(origin) as account:
            await account.refresh()
            watch = await account.backend.watch(list(account.mirror.known.values()))
            assert isinstance(watch, ImapWatch)
            watches.append(watch)
            opened.put_nowait(watch)
        await until_signalled(watch.signals(), "never")

    tasks.append(asyncio.create_task(follow(users[0])))
    await asyncio.wait_for(opened.get(), 30)
    tracemalloc.start()
    try:
        tasks.extend(asyncio.create_task(follow(user)) for user in users[1:])
        async with asyncio.timeout(30):
            for _ in users[1:]:
                await opened.get()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watch in watches:
            await watch.close()

    assert held / (len(users) - 1) < 100_000
