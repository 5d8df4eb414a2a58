"""Accounts over POP3 on servers that lack something, want us later, or mean harm."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from app.backends.pop3 import connection, refusals
from app.backends.pop3.backend import Pop3Backend
from app.backends.pop3.opening import Pop3Origin
from app.backends.pop3.refusals import MaildropLocked
from app.cluster.bus import listening
from app.cluster.leases import Leases
from app.errors import (
    GatewayError,
    LoginRefused,
    MailServerError,
    RateLimited,
    ServerProtocolError,
    ServerRefused,
    TimedOut,
    Unreachable,
)
from app.mail.pop3 import Pop3Rules
from app.mail.types import ServerLogin, TransportSecurity
from app.mailstore.blobs import BlobWriter
from app.mailstore.content import StoredContent
from app.mailstore.store import MailStore
from app.workers.pop3 import account as account_module
from app.workers.pop3 import fetching, patience
from app.workers.pop3.account import Pop3Sync

from tests.integration.raw_server import raw_server
from tests.pop3_harness import GUARD, HOST, Polled, add_pop3_account, open_polled
from tests.servers.dovecot import Dovecot
from tests.servers.scripted_pop3 import ScriptedPop3
from tests.servers.tls import TlsFiles
from tests.sync_harness import mail

BARE = frozenset({"UIDL", "TOP", "CAPA", "AUTH"})


def three() -> list[tuple[str, bytes]]:
    return [(f"id{number}", mail(f"m{number}", f"Text {number}")) for number in range(3)]


# ---- what a server lacks


@pytest.mark.parametrize("lacks", [frozenset({"UIDL"}), frozenset({"UIDL", "TOP"}), BARE], ids=["uidl", "top", "all"])
async def test_without_unique_ids_messages_are_known_by_their_headers(tmp_path: Path, lacks: frozenset[str]) -> None:
    kept = tuple(one for one in ("USER", "UIDL", "TOP") if one not in lacks)
    server = ScriptedPop3(three(), capabilities=None if lacks == BARE else kept, lacks=lacks)
    server.messages.append(server.messages[0])  # a copy
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()
        before = await account.subjects()
        await account.poll()
        del server.messages[1]
        server.messages.append(("", mail("new")))
        await account.poll()

        assert sorted(before) == ["m0", "m0", "m1", "m2"]
        assert await account.told() == ["message.updated", "message.created"]
        assert sorted(await account.states()) == ["gone", *["stored"] * 4]


async def test_new_unique_ids_for_all_are_no_flood(tmp_path: Path) -> None:
    server = ScriptedPop3([(f"a{number}", mail(f"m{number}")) for number in range(30)])
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()
        ids = await account.ids()
        server.messages = [(f"b{number}", content) for number, (_, content) in enumerate(server.messages)]
        await account.poll()

        assert await account.told() == []
        assert await account.ids() == ids
        assert await account.states() == ["stored"] * 30


async def test_new_unique_ids_and_sizes_are_known_by_content(tmp_path: Path) -> None:
    """A move to a server that counts line ends otherwise: the bytes that are fetched tell."""
    server = ScriptedPop3(three())
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()
        server.messages = [(f"b{number}", content) for number, (_, content) in enumerate(server.messages)]
        sizes = b"".join(b"%d %d\r\n" % (number, len(one[1]) - 9) for number, one in enumerate(server.messages, 1))
        server.replies["LIST"] = b"+OK\r\n" + sizes + b".\r\n"
        await account.poll()

        assert "message.created" not in await account.told()
        assert len(await account.ids()) == 3


async def test_an_empty_list_is_believed_the_second_time(tmp_path: Path) -> None:
    server = ScriptedPop3([(f"a{number}", mail(f"m{number}")) for number in range(12)])
    async with server.serving() as login, open_polled(tmp_path, login, mirror=True) as account:
        await account.poll()
        messages, server.messages = server.messages, []
        await account.poll()
        assert await account.told() == []
        server.messages = messages
        await account.poll()
        assert await account.told() == []

        server.messages = []
        for _ in range(3):
            await account.poll()
        assert await account.subjects() == []


async def test_what_comes_back_after_it_was_removed_is_removed_again(tmp_path: Path) -> None:
    server = ScriptedPop3(three())
    async with server.serving() as login, open_polled(tmp_path, login, "remove_after_download") as account:
        messages = list(server.messages)
        await account.poll()
        await account.poll()
        server.messages = messages
        await account.poll()

        assert server.messages == []
        assert len(await account.ids()) == 3
        assert "message.created" not in await account.told()


async def test_a_quit_that_fails_leaves_what_was_to_be_deleted_pending(tmp_path: Path) -> None:
    server = ScriptedPop3(three(), replies={"QUIT": b"-ERR some deleted messages not removed\r\n"})
    async with server.serving() as login, open_polled(tmp_path, login, "remove_after_download") as account:
        messages = list(server.messages)
        await account.poll()
        server.messages = messages
        assert await account.states() == ["delete_pending"] * 3
        del server.replies["QUIT"]
        await account.poll()
        await account.poll()

        assert await account.states() == ["deleted"] * 3
        assert len(await account.ids()) == 3


# ---- a server that wants us later


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"-ERR [IN-USE] mailbox locked\r\n", MaildropLocked),
        (b"-ERR maildrop already locked\r\n", MaildropLocked),
        (b"-ERR [LOGIN-DELAY] too soon\r\n", RateLimited),
        (b"-ERR [SYS/TEMP] try later\r\n", Unreachable),
        (b"-ERR [SYS/PERM] no\r\n", ServerRefused),
        (b"-ERR [AUTH] wrong\r\n", LoginRefused),
        (b"-ERR temporarily unavailable\r\n", Unreachable),
    ],
)
async def test_a_refused_login_is_told_by_its_code(reply: bytes, error: type[GatewayError], tls: TlsFiles) -> None:
    async with ScriptedPop3(replies={"PASS": reply}).serving() as login:
        with pytest.raises(error) as raised:
            await Pop3Origin(login, GUARD, tls.client_context()).open()

    assert type(raised.value) is error
    assert "secret" not in str(raised.value)


async def test_a_bare_refusal_is_about_the_login_where_codes_are_not_offered(tls: TlsFiles) -> None:
    server = ScriptedPop3(capabilities=("USER",), replies={"PASS": b"-ERR no\r\n"})
    async with server.serving() as login:
        with pytest.raises(LoginRefused):
            await Pop3Origin(login, GUARD, tls.client_context()).open()


async def followed(account: Polled, until: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    """Run the account's worker until something holds."""
    assert account.pop3 is not None
    task = asyncio.create_task(
        Pop3Sync(account.account_id, account.harness.index, account.harness.reader, account.pop3, account.epoch).run()
    )
    try:
        async with asyncio.timeout(seconds):
            with listening(account.harness.bus, account.account_id) as waiter:
                while not await until():
                    await waiter.wait(0.02)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_maildrop_in_use_is_tried_again_and_troubles_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "IN_USE_SECONDS", 0.05)
    server = ScriptedPop3(three(), replies={"PASS": b"-ERR [IN-USE] locked\r\n"})
    async with server.serving() as login, open_polled(tmp_path, login) as account:

        async def is_live() -> bool:
            if server.heard.count("PASS") > 2:
                server.replies.clear()
            return await account.state() == ("ready", "live")

        await followed(account, is_live)

        assert await account.told("account.") == ["account.connected"]


async def test_a_login_delay_is_kept_though_someone_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "ASKED_SECONDS", 0.0)
    server = ScriptedPop3(three(), capabilities=("USER", "UIDL", "TOP", "LOGIN-DELAY 2"))
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        until = time.monotonic() + 1.0

        async def is_over() -> bool:
            account.harness.bus.poke(f"pop3:{account.account_id}")
            return time.monotonic() > until

        await followed(account, is_over)

        assert server.logins == 1


async def test_a_login_that_comes_too_soon_is_throttled(tmp_path: Path) -> None:
    server = ScriptedPop3(replies={"PASS": b"-ERR [LOGIN-DELAY] wait\r\n"})
    async with server.serving() as login, open_polled(tmp_path, login) as account:

        async def is_down() -> bool:
            return (await account.state())[1] == "down"

        await followed(account, is_down)

        assert await account.told("account.") == ["account.throttled"]
        assert server.heard.count("PASS") == 1


async def test_a_refused_login_waits_for_its_owner(tmp_path: Path) -> None:
    server = ScriptedPop3(replies={"PASS": b"-ERR [AUTH] wrong\r\n"})
    async with server.serving() as login, open_polled(tmp_path, login) as account:

        async def is_refused() -> bool:
            return await account.state() == ("auth_required", "down")

        await followed(account, is_refused)

        assert await account.told("account.") == ["account.auth_required"]


async def test_no_secret_is_in_the_logs_or_events_though_a_server_repeats_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = ScriptedPop3(replies={"PASS": b"-ERR [AUTH] canary-pass is wrong\r\n"})
    async with server.serving() as plain:
        login = replace(plain, password="canary-pass")
        with pytest.raises(LoginRefused) as raised:
            await Pop3Origin(login, GUARD, ssl.create_default_context()).open()
        assert raised.value.origin is not None
        assert raised.value.origin.response == "-ERR [AUTH] … is wrong"
        async with open_polled(tmp_path, login) as account:

            async def is_refused() -> bool:
                return (await account.state())[0] == "auth_required"

            await followed(account, is_refused)
            told = b"".join(one.body for one in await account.events())

    out, err = capfd.readouterr()
    assert "canary" not in out + err + told.decode()


async def test_an_asked_for_poll_comes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "ASKED_SECONDS", 0.0)
    server = ScriptedPop3()
    async with server.serving() as login, open_polled(tmp_path, login) as account:

        async def has_come() -> bool:
            if await account.state() == ("ready", "live"):
                server.messages = three()[:1]
                account.harness.bus.poke(f"pop3:{account.account_id}")
            return await account.told() == ["message.created"]

        await followed(account, has_come)


# ---- a server that means harm


async def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    server = ScriptedPop3(replies={"LIST": b"+OK\r\n" + b"1" * 100_000})
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        with pytest.raises(ServerProtocolError):
            await account.poll()


async def test_an_endless_list_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.wire.pop3_client.LIST_LIMIT_LINES", 1_000)
    lines = b"".join(b"%d 1\r\n" % number for number in range(5_000))
    server = ScriptedPop3(replies={"LIST": b"+OK\r\n" + lines})
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        with pytest.raises(ServerProtocolError):
            await account.poll()


async def test_a_message_without_end_is_given_up_and_the_others_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.workers.pop3.fetching.MESSAGE_LIMIT_BYTES", 100_000)
    server = ScriptedPop3([("bad", mail("bad", "x\r\n" * 60_000)), *three()])
    sizes = b"".join(b"%d %d\r\n" % (number, min(len(one[1]), 99)) for number, one in enumerate(server.messages, 1))
    server.replies["LIST"] = b"+OK\r\n" + sizes + b".\r\n"
    async with server.serving() as login, open_polled(tmp_path, login, "remove_after_download") as account:
        assert (await account.poll()).has_more
        await account.poll()

        assert sorted(await account.subjects()) == ["bad", "m0", "m1", "m2"]
        assert [one[0] for one in server.messages] == ["bad"]


async def test_a_promise_of_four_gigabytes_is_shown_by_its_header_alone(tmp_path: Path) -> None:
    server = ScriptedPop3()
    async with server.serving() as login, open_polled(tmp_path, login, "remove_after_download") as account:
        await account.poll()
        server.messages = three()[:1]
        server.replies["LIST"] = b"+OK\r\n1 4294967296\r\n.\r\n"
        await account.poll()
        await account.poll()

        (message,) = await account.messages()
        assert (message.size_bytes, message.blob) == (4_294_967_296, None)
        assert "RETR" not in server.heard
        assert len(server.messages) == 1


@pytest.mark.parametrize("cut", [0, 3, 30, 60, 100, 140, 180, 250, 400, 600])
async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(tmp_path: Path, cut: int) -> None:
    server = ScriptedPop3(three(), cut_after_bytes=cut)
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        with pytest.raises(MailServerError):
            await account.poll()
        server.cut_after_bytes = None
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]
        assert await account.told() == []


async def test_a_server_that_sends_byte_by_byte_is_understood(tmp_path: Path) -> None:
    server = ScriptedPop3(three(), pieces=1, capabilities=("USER", "UIDL", "TOP", "PIPELINING"))
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]


async def test_no_more_waits_in_memory_than_a_batch_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "BATCH_BYTES", 50_000)
    monkeypatch.setattr(fetching, "BATCH_SECONDS", 60.0)
    batches: list[list[int]] = []
    keep_all = MailStore.keep_all

    async def keep(store: MailStore, writers: Sequence[BlobWriter]) -> list[StoredContent]:
        batches.append([one.size_bytes for one in writers])
        return await keep_all(store, writers)

    monkeypatch.setattr(MailStore, "keep_all", keep)
    server = ScriptedPop3([(f"id{number}", mail(f"m{number}", "x" * 20_000)) for number in range(7)])
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()

        assert [len(sizes) for sizes in batches] == [3, 3, 1]
        assert sorted(await account.subjects()) == [f"m{number}" for number in range(7)]


async def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REPLY_TIMEOUT_SECONDS", 0.1)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(say_nothing) as port:
        login = ServerLogin(HOST, port, TransportSecurity.NONE, "me", "secret")
        async with open_polled(tmp_path, login) as account:
            with pytest.raises(TimedOut):
                await account.poll()


async def test_a_message_that_comes_too_slowly_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REPLY_TIMEOUT_SECONDS", 0.2)
    server = ScriptedPop3(three(), replies={"RETR": b"+OK\r\nSubject: slow\r\n"})
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        with pytest.raises(TimedOut):
            await account.poll()
        assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


@pytest.mark.parametrize("uidls", ["1 id0", "1 id0\r\n2\r\n3 id2", "1 id0\r\nx y\r\n3 id2", "1 id0\r\n\r\n3 id2", ""])
async def test_a_message_whose_unique_id_cannot_be_read_is_known_by_its_header(tmp_path: Path, uidls: str) -> None:
    lines = f"{uidls}\r\n" if uidls else ""
    server = ScriptedPop3(three(), replies={"UIDL": f"+OK\r\n{lines}.\r\n".encode()})
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()
        await account.poll()
        del server.replies["UIDL"]
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]
        assert await account.states() == ["stored"] * 3


@pytest.mark.parametrize("sizes", ["1 9\r\n2\r\n3 9", "1 9\r\n3 9", "1 9\r\n2 x\r\n3 9"])
async def test_a_message_whose_size_cannot_be_read_is_fetched(tmp_path: Path, sizes: str) -> None:
    server = ScriptedPop3(three(), replies={"LIST": f"+OK\r\n{sizes}\r\n.\r\n".encode()})
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]


async def test_a_server_that_leaves_at_quit_has_given_its_mail(tmp_path: Path) -> None:
    server = ScriptedPop3(three(), replies={"QUIT": b""})
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]


async def test_what_comes_in_clear_after_stls_is_refused(tls: TlsFiles) -> None:
    async def inject(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK ready\r\n")
        await reader.readline()
        writer.write(b"+OK begin\r\n+OK injected\r\n")
        await reader.read()

    async with raw_server(inject) as port:
        login = ServerLogin(HOST, port, TransportSecurity.STARTTLS, "me", "secret")
        with pytest.raises(ServerProtocolError):
            await Pop3Origin(login, GUARD, tls.client_context()).open()


async def test_no_password_goes_out_where_starttls_is_refused(tls: TlsFiles) -> None:
    server = ScriptedPop3(lacks=frozenset({"STLS"}))
    async with server.serving() as plain:
        login = ServerLogin(HOST, plain.port, TransportSecurity.STARTTLS, "me", "secret")
        with pytest.raises(Unreachable):
            await Pop3Origin(login, GUARD, tls.client_context()).open()

    assert server.heard == ["STLS"]


@pytest.mark.parametrize("security", list(TransportSecurity))
async def test_dovecot_lets_us_in_by_each_kind_of_protection(
    dovecot: Dovecot, tls: TlsFiles, security: TransportSecurity
) -> None:
    user = dovecot.add_user()
    port = dovecot.pop3s_port if security is TransportSecurity.TLS else dovecot.pop3_port
    origin = Pop3Origin(ServerLogin(HOST, port, security, user.name, user.password), GUARD, tls.client_context())

    opened = await origin.open()

    assert await opened.listing() == []
    assert "UIDL" in opened.capabilities
    await opened.quit()


@pytest.mark.parametrize("security", [TransportSecurity.TLS, TransportSecurity.STARTTLS])
@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.3"])
async def test_a_certificate_that_is_wrong_is_refused(
    dovecot: Dovecot, tls: TlsFiles, security: TransportSecurity, host: str
) -> None:
    user = dovecot.add_user()
    port = dovecot.pop3s_port if security is TransportSecurity.TLS else dovecot.pop3_port
    origin = Pop3Origin(ServerLogin(host, port, security, user.name, user.password), GUARD, tls.client_context())

    with pytest.raises(Unreachable) as raised:
        await origin.open()

    assert raised.value.code == "mail_server_certificate"


async def test_dovecot_refuses_a_wrong_password(dovecot: Dovecot, tls: TlsFiles) -> None:
    login = ServerLogin(HOST, dovecot.pop3_port, TransportSecurity.NONE, dovecot.add_user().name, "wrong")

    with pytest.raises(LoginRefused):
        await Pop3Origin(login, GUARD, tls.client_context()).open()


async def test_mail_is_asked_for_as_it_is_before_the_login(tls: TlsFiles) -> None:
    """RFC 6856: else a server may downgrade what is in UTF-8."""
    server = ScriptedPop3(capabilities=("USER", "UTF8"))
    async with server.serving() as login:
        (await Pop3Origin(login, GUARD, tls.client_context()).open()).close()

    assert server.heard == ["CAPA", "UTF8", "USER", "PASS", "CAPA"]


async def test_accounts_on_a_hung_server_delay_none_on_a_good_one(tmp_path: Path) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = ScriptedPop3(three())
    async with raw_server(hang) as port, server.serving() as login, open_polled(tmp_path, login) as account:
        assert account.pop3 is not None
        hung = Pop3Origin(
            ServerLogin(HOST, port, TransportSecurity.NONE, "me", "secret"), GUARD, account.pop3.origin.tls
        )
        harness, tasks = account.harness, []
        for number in range(50):
            id_ = await add_pop3_account(harness, f"hung{number}@mail.test")
            backend = Pop3Backend(id_, hung, Pop3Rules(), harness.store, harness.reader, harness.database, harness.bus)
            epochs = await Leases(harness.database, is_alone=True).take([id_], 1)
            tasks.append(asyncio.create_task(Pop3Sync(id_, harness.index, harness.reader, backend, epochs[id_]).run()))
        await asyncio.sleep(0.05)
        try:

            async def is_live() -> bool:
                return await account.state() == ("ready", "live")

            await followed(account, is_live)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


# ---- what a server refuses


@pytest.mark.parametrize("verbs", [("RETR",), ("RETR", "TOP")], ids=["RETR", "RETR and TOP"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first poll", "later poll"])
async def test_a_message_that_a_pop3_server_refuses_is_a_row_that_says_why_until_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbs: tuple[str, ...], is_first: bool
) -> None:
    monkeypatch.setattr(patience, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.0)
    server = ScriptedPop3(three() if is_first else [])
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        if not is_first:
            await account.poll()
            server.messages = three()
        server.refused = {(verb, "id1") for verb in verbs}

        await account.poll()

        [refused] = [one for one in await account.messages() if one.blob is None]
        detail = await account.harness.reader.messages.detail(account.account_id, refused.id)
        assert detail.problems == (f"{fetching.REFUSED}: this one is broken",)
        assert sorted(await account.subjects()) == ["", "m0", "m2"] if "TOP" in verbs else ["m0", "m1", "m2"]
        [incomplete] = (await account.harness.reader.incomplete.of([account.account_id]))[account.account_id]
        assert (incomplete.path, incomplete.message_ids) == ("INBOX", (refused.id,))

        server.refused.clear()
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]
        assert all(one.blob is not None for one in await account.messages())
        assert refused.id in await account.ids()
        assert await account.harness.reader.incomplete.of([account.account_id]) == {}


async def test_a_refused_message_is_asked_for_more_and_more_rarely(tmp_path: Path) -> None:
    server = ScriptedPop3(three(), refused={("RETR", "id1")})
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        for _ in range(4):
            await account.poll()

    assert server.heard.count("RETR") == 3


async def test_a_message_too_large_to_be_stored_is_a_row_that_says_so(tmp_path: Path) -> None:
    server = ScriptedPop3(three())
    sizes = b"1 100\r\n2 999999999\r\n3 100\r\n"
    server.replies["LIST"] = b"+OK\r\n" + sizes + b".\r\n"
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]
        [large] = [one for one in await account.messages() if one.blob is None]
        detail = await account.harness.reader.messages.detail(account.account_id, large.id)
        assert detail.problems == (fetching.TOO_LARGE,)


@pytest.mark.parametrize("offered", ["SASL PLAIN", "SASL SCRAM-SHA-256 PLAIN LOGIN"])
async def test_a_mechanism_that_is_offered_and_not_supported_gives_way_to_the_next(
    tmp_path: Path, offered: str
) -> None:
    server = ScriptedPop3(three(), capabilities=("USER", "UIDL", "TOP", offered))
    server.replies["AUTH"] = b"-ERR unrecognized mechanism\r\n"
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        await account.poll()

        assert sorted(await account.subjects()) == ["m0", "m1", "m2"]
    assert server.heard.count("AUTH") == len(offered.split()) - 1
    assert server.heard.count("PASS") == 1


async def test_a_refused_password_is_not_tried_by_another_mechanism(tmp_path: Path) -> None:
    server = ScriptedPop3(three(), capabilities=("USER", "UIDL", "SASL PLAIN LOGIN", "RESP-CODES"))
    server.replies["AUTH"] = b"-ERR [AUTH] no such user\r\n"
    async with server.serving() as login, open_polled(tmp_path, login) as account:
        with pytest.raises(LoginRefused):
            await account.poll()
    assert (server.heard.count("AUTH"), server.heard.count("PASS")) == (1, 0)
