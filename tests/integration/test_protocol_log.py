"""What is recorded of real IMAP, POP3 and SMTP servers shows the protocol, and nothing that is secret."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.backends.pop3.opening import Pop3Origin
from app.backends.smtp import SmtpSubmission
from app.errors import LoginRefused
from app.mail.backend import OutgoingMail
from app.mail.protocol_log import ProtocolLogs
from app.mail.types import AccountId, ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.harness import open_harness
from tests.integration.raw_server import raw_server
from tests.servers.dovecot import Dovecot
from tests.servers.hostile_imap import Dialog, HostileImap
from tests.servers.smtp_sink import SmtpSink
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, OtherClient, add_remote_account, mail

GUARD = NetGuard.of(["127.0.0.0/8"])
SECRET = "canary-text"


async def content(data: bytes) -> AsyncIterator[bytes]:
    yield data


def texts(traces: ProtocolLogs, account_id: AccountId) -> str:
    return "\n".join(f"{one.protocol} {one.direction} {one.text}" for one in traces.of(account_id)[1])


async def test_an_account_on_dovecot_is_recorded_without_its_password_and_its_mail(
    tmp_path: Path, dovecot: Dovecot, tls: TlsFiles
) -> None:
    user = dovecot.add_user(password="canary-password")
    traces = ProtocolLogs()
    async with open_harness(tmp_path) as harness:
        account_id = await add_remote_account(harness, user.name)
        traces.start(account_id, 600)
        login = ServerLogin("127.0.0.1", dovecot.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
        recorder = partial(traces.recorder, account_id, "imap")
        backend = ImapBackend(
            account_id, Origin(login, GUARD, tls.client_context(), Hosts(), recorder), harness.reader.mailboxes
        )
        one = Followed(harness, account_id, backend)
        with OtherClient(dovecot, user) as other:
            other.append("INBOX", mail(SECRET, SECRET))
            async with one.following():
                await one.until_live()
                await one.until(one.subjects, [SECRET])
                inbox = await harness.mailbox(account_id)
                await backend.search(inbox, "text", SECRET)
                await backend.append(inbox, content(mail(SECRET)), len(mail(SECRET)), frozenset(), None)
        await backend.close()

        login = ServerLogin("127.0.0.1", dovecot.pop3_port, TransportSecurity.STARTTLS, user.name, user.password)
        session = await Pop3Origin(
            login, GUARD, tls.client_context(), new_recorder=partial(traces.recorder, account_id, "pop3")
        ).open()
        session.close()

    shown = texts(traces, account_id)
    for seen in (
        "imap sent",
        "UID SEARCH …",
        "APPEND …",
        "ENVELOPE (",
        "STARTTLS",
        "pop3 sent CAPA",
        "pop3 received +OK",
    ):
        assert seen in shown
    assert "canary" not in shown


async def test_a_submission_is_recorded_without_password_and_message(smtp_sink: SmtpSink, tls: TlsFiles) -> None:
    traces, account_id = ProtocolLogs(), AccountId("acc_ann")
    traces.start(account_id, 600)
    login = ServerLogin(smtp_sink.host, smtp_sink.tls_port, TransportSecurity.TLS, smtp_sink.user, smtp_sink.password)
    submission = SmtpSubmission(
        login, GUARD, tls.client_context(), "gateway.test", partial(traces.recorder, account_id, "smtp")
    )
    text = f"Subject: {SECRET}\r\n\r\n{SECRET}\r\n".encode()
    await submission.send(OutgoingMail("ann@demo.test", ("bob@there.test",), text))
    submission.close()

    shown = texts(traces, account_id)
    assert "smtp sent MAIL FROM:<ann@demo.test>" in shown
    assert "smtp received 354" in shown
    assert not any(secret in shown for secret in (smtp_sink.password, SECRET))


async def test_a_server_that_repeats_what_it_was_told_shows_no_password() -> None:
    async def repeating(dialog: Dialog, tag: str) -> None:
        await dialog.say(f"{tag} NO you said canary-password, or AGFubgBjYW5hcnktcGFzc3dvcmQ=\r\n".encode())

    traces, account_id = ProtocolLogs(), AccountId("acc_ann")
    traces.start(account_id, 600)
    async with raw_server(HostileImap({"LOGIN": repeating})) as port:
        login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "canary-password")
        recorder = partial(traces.recorder, account_id, "imap")
        origin = Origin(login, GUARD, ssl.create_default_context(), Hosts(), recorder)
        try:
            async with asyncio.timeout(5):
                await origin.open()
        except LoginRefused:
            pass

    shown = texts(traces, account_id)
    assert "LOGIN …" in shown
    assert "you said" in shown
    assert "canary" not in shown
    assert "AGFubg" not in shown


@pytest.mark.parametrize("shape", ["{0}", "AUTH {1}", '"{0}"', "LOGIN ann {0}"])
async def test_an_error_of_a_refused_login_never_holds_the_password_that_was_sent(shape: str) -> None:
    blob = base64.b64encode(b"\0ann\0canary-password").decode()
    said = shape.format("canary-password", blob)

    async def repeating(dialog: Dialog, tag: str) -> None:
        await dialog.say(f"{tag} NO you said {said}\r\n".encode())

    async with raw_server(HostileImap({"LOGIN": repeating})) as port:
        login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "canary-password")
        async with asyncio.timeout(5):
            with pytest.raises(LoginRefused) as refused:
                await Origin(login, GUARD, ssl.create_default_context(), Hosts()).open()

    assert refused.value.origin is not None
    assert "you said" in refused.value.origin.response
    assert "canary" not in refused.value.origin.response
    assert blob not in refused.value.origin.response


async def test_an_smtp_error_never_holds_the_password_that_was_sent() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        while line := await reader.readline():
            if line.upper().startswith(b"EHLO"):
                writer.write(b"250-hi\r\n250 AUTH PLAIN\r\n")
            else:
                writer.write(b"535 5.7.8 refused: " + line.split()[-1] + b" canary-password\r\n")

    async with raw_server(conversation) as port:
        login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "canary-password")
        with pytest.raises(LoginRefused) as refused:
            await SmtpSubmission(login, GUARD, ssl.create_default_context(), "client.test").verify()

    assert refused.value.origin is not None
    assert refused.value.origin.response == "535 refused: … …"


async def test_a_pop3_error_never_holds_the_password_that_was_sent() -> None:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK hi\r\n")
        while line := await reader.readline():
            if line.startswith(b"PASS"):
                writer.write(b"-ERR [AUTH] wrong: " + line.strip() + b"\r\n")
            else:
                writer.write(b"+OK\r\n" if line.startswith(b"USER") else b"-ERR no\r\n")

    async with raw_server(conversation) as port:
        login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "canary-password")
        with pytest.raises(LoginRefused) as refused:
            await Pop3Origin(login, GUARD, ssl.create_default_context()).open()

    assert refused.value.origin is not None
    assert "canary" not in refused.value.origin.response
