"""A submission server whose replies are spoilt at random: a message is sent once, or its state is uncertain."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field

import pytest
from app.backends import smtp, smtp_connection
from app.backends.smtp import SmtpSubmission
from app.errors import LoginRefused, MailServerError
from app.mail.backend import OutgoingMail, Verdict
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.integration.raw_server import raw_server
from tests.servers.mutating_proxy import MutatingProxy

SEEDS = int(os.environ.get("POSTGATE_TEST_SEEDS", "8"))
MAILS = 6


@dataclass
class Submitted:
    """A submission server without a login, for `raw_server`; `contents` is what it accepted."""

    contents: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                writer.write(b"250-mx.test\r\n250-SIZE 1000000\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self.contents.append(content)
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"250 ok\r\n")
            await writer.drain()


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "REPLY_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(smtp_connection, "COMMAND_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(smtp_connection, "CONNECT_TIMEOUT_SECONDS", 0.3)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_submission_server_that_speaks_nonsense_gets_no_message_twice(seed: int) -> None:
    server = Submitted()
    async with raw_server(server) as port:
        kinds = ("drop", "double", "double", "split", "swap")
        proxy = MutatingProxy(port, seed, spoil=0.15, kinds=kinds, others=1.0)
        async with proxy.serving() as spoilt_port:
            login = ServerLogin("127.0.0.1", spoilt_port, TransportSecurity.NONE, "", "")
            submission = SmtpSubmission(
                login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), "postgate.test"
            )
            for number in range(MAILS):
                await sent_once(submission, server, number)
            proxy.be_honest()
            assert await verdict_of(submission, MAILS) in (Verdict.ACCEPTED, None)
            assert await verdict_of(submission, MAILS + 1) is Verdict.ACCEPTED
            submission.close()
    known = {content_of(number) for number in range(MAILS + 2)}
    assert {one.removesuffix(b".\r\n") for one in server.contents} <= known


async def sent_once(submission: SmtpSubmission, server: Submitted, number: int) -> None:
    """Try until it is sent or nobody knows, and compare with what the server has."""
    for _ in range(20):
        verdict = await verdict_of(submission, number)
        count = sum(one.startswith(content_of(number)) for one in server.contents)
        if verdict is Verdict.UNCERTAIN:
            assert count <= 1
            return
        assert count == (1 if verdict is Verdict.ACCEPTED else 0)
        if verdict is Verdict.ACCEPTED:
            return


async def verdict_of(submission: SmtpSubmission, number: int) -> Verdict | None:
    """None where the connection was lost before anything was handed over."""
    mail = OutgoingMail("ann@x.test", ("bob@y.test",), content_of(number))
    try:
        [result] = await submission.send(mail)
    except MailServerError:
        return None
    return result.verdict


def content_of(number: int) -> bytes:
    return b"Subject: m%d\r\n\r\nText %d\r\n" % (number, number)


@dataclass
class Choosy(Submitted):
    """Offers PLAIN and LOGIN, and answers AUTH PLAIN with `answer`."""

    answer: bytes = b""
    heard: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            self.heard.append(line.strip())
            if line.startswith(b"EHLO"):
                writer.write(b"250-mx.test\r\n250 AUTH PLAIN LOGIN\r\n")
            elif line.startswith(b"AUTH PLAIN"):
                writer.write(self.answer)
            elif line.startswith(b"AUTH LOGIN"):
                writer.write(b"334 VXNlcm5hbWU6\r\n")
                await reader.readline()
                writer.write(b"334 UGFzc3dvcmQ6\r\n")
                await reader.readline()
                writer.write(b"235 welcome\r\n")
            else:
                writer.write(b"250 ok\r\n")


async def verified(server: Choosy) -> None:
    async with raw_server(server) as port:
        login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "secret")
        submission = SmtpSubmission(login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), "postgate.test")
        try:
            await submission.verify()
        finally:
            submission.close()


async def test_a_mechanism_that_smtp_offers_and_does_not_support_gives_way_to_the_next() -> None:
    await verified(Choosy(answer=b"504 5.5.4 unrecognized authentication type\r\n"))


async def test_a_password_that_smtp_refuses_is_not_tried_again() -> None:
    server = Choosy(answer=b"535 5.7.8 no\r\n")
    with pytest.raises(LoginRefused):
        await verified(server)
    assert not any(line.startswith(b"AUTH LOGIN") for line in server.heard)
