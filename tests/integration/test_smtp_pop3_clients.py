"""Real clients at the embedded SMTP and POP3 servers: each does a real job."""

from __future__ import annotations

import asyncio
import json
import poplib
import smtplib
import ssl
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

import pytest

from tests.integration.embedded import HOST, Embedded, embedded_servers
from tests.servers.process import find_program
from tests.servers.tls import TlsFiles

T = TypeVar("T")

JOB_SECONDS = 30.0
NODE = Path(__file__).parents[1] / "node"
BODY = "Hello\n.a line with a dot\n..two\n.\nend\n"


@pytest.fixture
async def servers(tmp_path: Path, tls: TlsFiles) -> AsyncIterator[Embedded]:
    async with embedded_servers(tmp_path, tls) as servers:
        yield servers


def message(subject: str = "Hi", sender: str = "ann@demo.test", to: str = "bob@demo.test") -> EmailMessage:
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = subject, sender, to
    made.set_content(BODY)
    return made


async def in_thread(work: Callable[[], T]) -> T:
    async with asyncio.timeout(JOB_SECONDS):
        return await asyncio.to_thread(work)


async def run(program: str, *arguments: str, said: bytes = b"") -> bytes:
    """What a program prints; it must end well within its time."""
    job = await asyncio.create_subprocess_exec(find_program(program), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(JOB_SECONDS):
        printed, complaint = await job.communicate(said)
    assert job.returncode == 0, complaint.decode()
    return printed


async def contents(servers: Embedded, name: str) -> list[bytes]:
    account_id = await servers.harness.deliveries.account_of(f"{name}@demo.test")
    assert account_id is not None
    return await servers.harness.contents(account_id)


async def deliver(servers: Embedded, *subjects: str) -> None:
    def send() -> None:
        with smtplib.SMTP(HOST, servers.mx, timeout=10) as client:
            for subject in subjects:
                client.send_message(message(subject, "joe@there.example"))

    await in_thread(send)


async def test_smtplib_submits_under_starttls_and_poplib_reads_and_removes(servers: Embedded, tls: TlsFiles) -> None:
    def submit() -> None:
        with smtplib.SMTP(HOST, servers.submission, timeout=10) as client:
            client.starttls(context=tls.client_context())
            client.login("ann@demo.test", "secret")
            client.send_message(message("First"))
            client.send_message(message("Second"))

    def read() -> tuple[list[bytes], list[bytes], list[bytes]]:
        client = poplib.POP3_SSL(HOST, servers.pop3s, context=tls.client_context(), timeout=10)
        client.user("bob@demo.test")
        client.pass_("secret")
        assert client.stat()[0] == 2
        first = client.retr(1)[1]
        top = client.top(2, 1)[1]
        uidl = client.uidl()[1]
        client.dele(1)
        client.quit()
        return first, top, uidl

    await in_thread(submit)
    first, top, uidl = await in_thread(read)

    assert b"Subject: First" in first
    assert first[-5:] == [b"Hello", b".a line with a dot", b"..two", b".", b"end"]
    assert b"Subject: Second" in top
    assert top[-2:] == [b"", b"Hello"]
    assert len({line.split()[1] for line in uidl}) == 2
    assert [b"Subject: Second" in one for one in await contents(servers, "bob")] == [True]


async def test_smtplib_is_told_why_it_may_not_send(servers: Embedded) -> None:
    def attempt() -> list[int]:
        codes = []
        with smtplib.SMTP_SSL(
            HOST, servers.submissions, timeout=10, context=ssl._create_unverified_context()
        ) as client:
            for sender, password in (("ann@demo.test", None), ("ann@demo.test", "wrong"), ("bob@demo.test", "secret")):
                try:
                    if password is not None:
                        client.login("ann@demo.test", password)
                    client.sendmail(sender, ["joe@there.example"], "Subject: x\r\n\r\n")
                except smtplib.SMTPResponseException as refused:
                    codes.append(refused.smtp_code)
        return codes

    assert await in_thread(attempt) == [530, 535, 553]


async def test_smtplib_delivers_by_lmtp(servers: Embedded) -> None:
    """To one who exists: of several replies to a message smtplib reads the first alone."""

    def deliver_by_lmtp() -> dict[str, tuple[int, bytes]]:
        with smtplib.LMTP(HOST, servers.lmtp) as client:
            recipients = ["ann@demo.test", "nobody@demo.test"]
            return client.sendmail("joe@there.example", recipients, message().as_bytes(policy=policy.SMTP))

    refused = await in_thread(deliver_by_lmtp)

    assert {address: code for address, (code, _) in refused.items()} == {"nobody@demo.test": 550}
    assert len(await contents(servers, "ann")) == 1


async def test_curl_submits_and_reads(servers: Embedded, tls: TlsFiles, tmp_path: Path) -> None:
    file = tmp_path / "message.eml"
    file.write_bytes(message("From curl").as_bytes(policy=policy.SMTP))
    user = ["--user", "ann@demo.test:secret", "--silent", "--show-error", "--cacert", str(tls.authority)]
    envelope = ["--mail-from", "ann@demo.test", "--mail-rcpt", "bob@demo.test", "--mail-rcpt", "joe@there.example"]

    for url in (f"smtp://localhost:{servers.submission}", f"smtps://localhost:{servers.submissions}"):
        await run("curl", *user, "--ssl-reqd", url, *envelope, "--upload-file", str(file))
    user[1] = "bob@demo.test:secret"
    listed = await run("curl", *user, "--ssl-reqd", f"pop3://localhost:{servers.pop3}/")
    read = await run("curl", *user, f"pop3s://localhost:{servers.pop3s}/2")

    assert [line.split()[0] for line in listed.splitlines()] == [b"1", b"2"]
    assert b"Subject: From curl" in read
    assert read.endswith(b"\r\n..two\r\n.\r\nend\r\n")
    ann = await servers.harness.deliveries.account_of("ann@demo.test")
    assert ann is not None
    assert len(await servers.harness.contents(ann)) == 0


async def test_fetchmail_moves_mail_by_pop3_into_another_mailbox_by_lmtp(servers: Embedded, tmp_path: Path) -> None:
    await deliver(servers, "One", "Two", "Three")
    control = tmp_path / "fetchmailrc"
    control.write_text(
        f"poll {HOST} protocol pop3 service {servers.pop3} uidl\n"
        f'  user "bob@demo.test" password "secret" sslproto "" fetchall\n'
        f'  lmtp smtphost "{HOST}/{servers.lmtp}" smtpname "ann@demo.test"\n'
    )
    control.chmod(0o600)

    await run("fetchmail", "--fetchmailrc", str(control), "--nodetach", "--pidfile", str(tmp_path / "pid"),
              "--idfile", str(tmp_path / "ids"), "--nosyslog")  # fmt: skip

    assert await contents(servers, "bob") == []
    fetched = [message_from_bytes(one, policy=policy.default) for one in await contents(servers, "ann")]
    assert [one["Subject"] for one in fetched] == ["One", "Two", "Three"]
    assert all(one.get_content().replace("\r\n", "\n") == BODY for one in fetched)


async def test_nodemailer_sends_over_one_connection(servers: Embedded, tls: TlsFiles) -> None:
    script = str(NODE / "nodemailer_job.mjs")

    printed = await run(
        "node", script, str(servers.submission), "ann@demo.test", "secret", str(tls.authority), "bob@demo.test"
    )

    report = json.loads(printed)
    assert [one["accepted"] for one in report["results"]] == [["bob@demo.test"]] * 2
    assert report["refused"] == 553
    received = [message_from_bytes(one, policy=policy.default) for one in await contents(servers, "bob")]
    assert [one["Subject"] for one in received] == ["Grüße aus Köln", "こんにちは"]
    assert [len(part.get_content()) for one in received for part in one.iter_attachments()] == [200_000] * 2


async def test_a_message_of_many_megabytes_passes_both_ways(servers: Embedded) -> None:
    large = message("Large")
    large.add_attachment(b"\x07" * 8_000_000, maintype="application", subtype="octet-stream")

    def send_and_read() -> bytes:
        with smtplib.SMTP(HOST, servers.mx, timeout=20) as client:
            client.send_message(large, "joe@there.example", ["bob@demo.test"])
        reader = poplib.POP3(HOST, servers.pop3, timeout=20)
        reader.user("bob@demo.test")
        reader.pass_("secret")
        lines = reader.retr(1)[1]
        reader.quit()
        return b"\r\n".join(lines)

    received = message_from_bytes(await in_thread(send_and_read), policy=policy.default)

    assert [len(part.get_content()) for part in received.iter_attachments()] == [8_000_000]


@pytest.mark.parametrize(
    ("server", "hello", "start", "probe"),
    [
        ("submission", b"EHLO x\r\n", b"STARTTLS\r\n", b"NOOP\r\n"),
        ("mx", b"EHLO x\r\n", b"STARTTLS\r\n", b"NOOP\r\n"),
        ("lmtp", b"LHLO x\r\n", b"STARTTLS\r\n", b"NOOP\r\n"),
        ("pop3", b"CAPA\r\n", b"STLS\r\n", b"NOOP\r\n"),
    ],
)
async def test_what_is_injected_after_starttls_is_answered_neither_before_nor_after_the_handshake(
    servers: Embedded, tls: TlsFiles, server: str, hello: bytes, start: bytes, probe: bytes
) -> None:
    """Over a real socket: command and injection in one packet."""
    reader, writer = await asyncio.open_connection(HOST, getattr(servers, server))
    async with asyncio.timeout(10):
        await reader.readline()
        writer.write(start + probe)
        go_ahead = await reader.readline()
        assert go_ahead.startswith((b"220 ", b"+OK "))
        await writer.start_tls(tls.client_context(), server_hostname="localhost")
        writer.write(hello)
        answer = await reader.readline()
    writer.close()

    assert answer.startswith((b"250-mail.demo.test", b"+OK Capabilities"))
